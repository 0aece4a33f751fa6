//! ApiVersions (18), versions 0 to 4: what is served, before anything else is asked.
//!
//! A version that is not served is answered in version 0 with UNSUPPORTED_VERSION and the range of ApiVersions itself, so
//! that the client can ask again (KIP-511). From version 3 on the client says what it is, and hears of features; in version 3
//! only of those that cannot be at level 0: Java clients 3.3 to 3.7 break off at the others (KAFKA-17492).

use super::{Asked, Context, TABLE, encode};
use crate::server::service::{Answer, Call};
use millrace_protocol::messages::ApiVersionsRequest;
use millrace_protocol::messages::api_versions_response::{
    ApiVersion, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use millrace_protocol::{ApiKey, ErrorCode, StrBytes};
use std::sync::Arc;

/// Kafka's feature levels as 4.3 supports them, with what holds here: that of the metadata, 1 for groups of the new
/// protocol (KIP-848), and 2 for transactions that have an epoch each (KIP-890). The other features of 4.3 stand for requests that are not served yet, and are not named.
const FEATURES: &[(&str, i16, i16)] =
    &[("group.version", 0, 1), ("metadata.version", 7, 30), ("transaction.version", 0, 2)];

pub(super) fn handle(asked: Asked, request: ApiVersionsRequest) -> ApiVersionsResponse {
    if asked.version >= 3 {
        let (name, version) = (&request.client_software_name, &request.client_software_version);
        if !is_software(name) || !is_software(version) {
            return ApiVersionsResponse::default().with_error_code(ErrorCode::InvalidRequest.code());
        }
        let _known = asked.connection.software.set((name.to_string(), version.to_string()));
    }
    let mut keys: Vec<ApiVersion> = TABLE.iter().map(|api| line(api.key)).collect();
    keys.sort_by_key(|key| key.api_key);
    let response = ApiVersionsResponse::default().with_api_keys(keys);
    if asked.version < 3 {
        return response;
    }
    let may_be_told = |(_, min, _): &&(&'static str, i16, i16)| *min > 0 || asked.version > 3;
    let supported = |(name, min, max): &(&'static str, i16, i16)| {
        SupportedFeatureKey::default()
            .with_name(StrBytes::from_static_str(name))
            .with_min_version(*min)
            .with_max_version(*max)
    };
    let finalized = |(name, _, max): &(&'static str, i16, i16)| {
        FinalizedFeatureKey::default()
            .with_name(StrBytes::from_static_str(name))
            .with_min_version_level(*max)
            .with_max_version_level(*max)
    };
    let epoch = i64::try_from(asked.context.cluster.image().index()).unwrap_or(0);
    response
        .with_supported_features(FEATURES.iter().filter(may_be_told).map(supported).collect())
        .with_finalized_features_epoch(epoch)
        .with_finalized_features(FEATURES.iter().map(finalized).collect())
}

/// The answer to a version that is not served.
pub(super) fn unsupported(_context: &Arc<Context>, call: Call) -> Answer {
    let response = ApiVersionsResponse::default()
        .with_error_code(ErrorCode::UnsupportedVersion.code())
        .with_api_keys(vec![line(ApiKey::ApiVersions)]);
    Answer::Now(encode(call.out, ApiKey::ApiVersions, 0, call.header.correlation_id, &response))
}

fn line(key: ApiKey) -> ApiVersion {
    let versions = key.versions();
    ApiVersion::default().with_api_key(key.code()).with_min_version(versions.min).with_max_version(versions.max)
}

/// Letters and digits, with `.` and `-` between them.
fn is_software(text: &str) -> bool {
    let plain = |c: &u8| c.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(plain)
        && bytes.last().is_some_and(plain)
        && bytes.iter().all(|c| plain(c) || matches!(c, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_kip_511() {
        for good in ["a", "apache-kafka-java", "4.3.1", "librdkafka"] {
            assert!(is_software(good), "{good}");
        }
        for bad in ["", "-a", "a.", "a b", "ä"] {
            assert!(!is_software(bad), "{bad}");
        }
    }
}
