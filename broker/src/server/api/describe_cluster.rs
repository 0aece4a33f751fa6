//! DescribeCluster (60), versions 0 to 2.
//!
//! Version 1 adds the kind of endpoint that is asked for (brokers, controllers), 2 tells fenced brokers.

use super::metadata::{CLUSTER_OPERATIONS, NOT_ASKED, controller};
use super::{Asked, text};
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::describe_cluster_response::{DescribeClusterBroker, DescribeClusterResponse};
use millrace_protocol::messages::{BrokerId, DescribeClusterRequest};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) async fn handle(asked: Asked, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let response = DescribeClusterResponse::default();
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            return response.with_error_code(ErrorCode::MismatchedEndpointType.code()).with_error_message(Some(text(
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER",
            )));
        }
        other => {
            return response
                .with_error_code(ErrorCode::UnsupportedEndpointType.code())
                .with_error_message(Some(text(format!("Unsupported endpoint type {other}"))));
        }
    }
    let image = asked.context.cluster.image();
    let brokers = image.brokers().filter(|broker| request.include_fenced_brokers || !broker.fenced).map(|broker| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(broker.id().get()))
            .with_host(text(broker.host()))
            .with_port(broker.port().into())
            .with_rack(broker.registration.rack.as_deref().map(text))
            .with_is_fenced(broker.fenced)
    });
    let operations = if request.include_cluster_authorized_operations { CLUSTER_OPERATIONS } else { NOT_ASKED };
    response
        .with_cluster_id(text(image.cluster_id().unwrap_or_default()))
        .with_controller_id(BrokerId(controller(&asked.context)))
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(operations)
}
