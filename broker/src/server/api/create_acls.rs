//! CreateAcls (30), versions 1 to 3: refused rule by rule, as by a Kafka without an authorizer.

use super::describe_acls::NO_AUTHORIZER;
use super::{Asked, text};
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::create_acls_response::AclCreationResult;
use millrace_protocol::messages::{CreateAclsRequest, CreateAclsResponse};

pub(super) async fn handle(_: Asked, request: CreateAclsRequest) -> CreateAclsResponse {
    let refused = AclCreationResult::default()
        .with_error_code(ErrorCode::SecurityDisabled.code())
        .with_error_message(Some(text(NO_AUTHORIZER)));
    CreateAclsResponse::default().with_results(vec![refused; request.creations.len()])
}
