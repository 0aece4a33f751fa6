//! DeleteAcls (31), versions 1 to 3: refused filter by filter, as by a Kafka without an authorizer.

use super::describe_acls::NO_AUTHORIZER;
use super::{Asked, text};
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::delete_acls_response::DeleteAclsFilterResult;
use millrace_protocol::messages::{DeleteAclsRequest, DeleteAclsResponse};

pub(super) async fn handle(_: Asked, request: DeleteAclsRequest) -> DeleteAclsResponse {
    let refused = DeleteAclsFilterResult::default()
        .with_error_code(ErrorCode::SecurityDisabled.code())
        .with_error_message(Some(text(NO_AUTHORIZER)));
    DeleteAclsResponse::default().with_filter_results(vec![refused; request.filters.len()])
}
