//! The table of paths. A handler opens what it needs, acts, and converts.

use super::answer::{BrokerInfo, PlanAnswer, PluginInfo, Refusal, StatusAnswer, TopicInfo};
use super::apply::PushError;
use super::{HttpContext, MAX_REQUEST, guard};
use crate::config::ApplyRequest;
use crate::config::bundle::MAX_COMPONENT;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router, middleware};
use millrace_metadata::ContentHash;

type Answer<T> = Result<Json<T>, Refusal>;

pub(super) fn router(context: HttpContext) -> Router {
    let components = Router::new()
        .route("/v1/plugins/{name}/{version}", put(push).delete(remove))
        .route("/v1/components/{hash}", put(store))
        .layer(DefaultBodyLimit::max(MAX_COMPONENT));
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .route("/v1/topics", get(topics))
        .route("/v1/plugins", get(plugins))
        .route("/v1/plan", post(plan))
        .route("/v1/apply", post(apply))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .merge(components)
        .fallback(nothing_here)
        .layer(middleware::from_fn_with_state(context.clone(), guard::check))
        .with_state(context)
}

async fn nothing_here() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "there is nothing under this path")
}

async fn health() -> &'static str {
    "ok\n"
}

async fn ready(State(context): State<HttpContext>) -> Response {
    if (context.ready)() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response()
    }
}

async fn metrics(State(context): State<HttpContext>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], (context.metrics)()).into_response()
}

async fn status(State(context): State<HttpContext>) -> Json<StatusAnswer> {
    let image = context.applier.image();
    let broker = |broker: &millrace_metadata::Broker| BrokerInfo {
        id: broker.id().get(),
        address: format!("{}:{}", broker.host(), broker.port()),
    };
    Json(StatusAnswer {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node_id: context.node_id.get(),
        ready: (context.ready)(),
        cluster_id: image.cluster_id().map(str::to_owned),
        brokers: image.brokers().map(|one| broker(one)).collect(),
        topics: image.topics().filter(|topic| !topic.internal).count(),
        partitions: image.partition_count(),
        plugins: image.plugins().len(),
    })
}

async fn topics(State(context): State<HttpContext>) -> Json<Vec<TopicInfo>> {
    let image = context.applier.image();
    Json(image.topics().map(|topic| TopicInfo::new(topic, (context.generations)(topic.id))).collect())
}

async fn plugins(State(context): State<HttpContext>) -> Json<Vec<PluginInfo>> {
    let image = context.applier.image();
    Json(image.plugins().map(|plugin| PluginInfo::new(plugin, &image)).collect())
}

async fn plan(State(context): State<HttpContext>, Json(request): Json<ApplyRequest>) -> Answer<PlanAnswer> {
    let plan = context.applier.plan(&request).await?;
    Ok(Json(PlanAnswer::new(plan, false)))
}

async fn apply(State(context): State<HttpContext>, Json(request): Json<ApplyRequest>) -> Answer<PlanAnswer> {
    let plan = context.applier.apply(&request).await?;
    tracing::info!(differences = plan.differences.len(), "topic files applied");
    Ok(Json(PlanAnswer::new(plan, true)))
}

async fn push(
    State(context): State<HttpContext>,
    Path((name, version)): Path<(String, String)>,
    component: Bytes,
) -> Answer<PluginInfo> {
    let plugin = context.applier.push(&name, &version, component).await.map_err(|error| {
        let status = match error {
            PushError::Name(_) => StatusCode::BAD_REQUEST,
            PushError::Component(_) => StatusCode::UNPROCESSABLE_ENTITY,
            PushError::Cluster(_) => StatusCode::CONFLICT,
        };
        Refusal::new(status, error.to_string())
    })?;
    tracing::info!(plugin = %plugin.name, version = %plugin.version, hash = %plugin.hash, "plugin registered");
    Ok(Json(PluginInfo::new(&plugin, &context.applier.image())))
}

async fn remove(
    State(context): State<HttpContext>,
    Path((name, version)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    let removed = context.applier.remove(&name, &version).await;
    removed.map(|()| StatusCode::NO_CONTENT).map_err(|reason| Refusal::new(StatusCode::CONFLICT, reason))
}

async fn store(
    State(context): State<HttpContext>,
    Path(hash): Path<String>,
    component: Bytes,
) -> Result<StatusCode, Refusal> {
    let hash: ContentHash = hash.parse().map_err(|error: millrace_metadata::ContentHashError| {
        Refusal::new(StatusCode::BAD_REQUEST, error.to_string())
    })?;
    let stored = context.applier.store(hash, component).await;
    stored.map(|()| StatusCode::NO_CONTENT).map_err(|reason| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, reason))
}
