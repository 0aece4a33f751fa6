//! DescribeAcls (29), versions 1 to 3.
//!
//! Nobody's access is checked, and the answer is that of a Kafka without an authorizer. Tools tell it apart from a broker
//! that does not know the request: MirrorMaker then copies no rules and says so once, instead of failing again and again.

use super::{Asked, text};
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};

pub(super) const NO_AUTHORIZER: &str = "No Authorizer is configured.";
/// Kafka says it in other words here.
const NO_AUTHORIZER_ON_BROKER: &str = "No Authorizer is configured on the broker";

pub(super) async fn handle(_: Asked, _: DescribeAclsRequest) -> DescribeAclsResponse {
    DescribeAclsResponse::default()
        .with_error_code(ErrorCode::SecurityDisabled.code())
        .with_error_message(Some(text(NO_AUTHORIZER_ON_BROKER)))
}
