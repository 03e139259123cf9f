// Generated from protos/keyfence/v1 by `make generate`. Do not edit.
/// The RPCs of `AccountService`.
#[derive(Clone, Debug)]
pub struct AccountService(pub(crate) crate::Client);
impl AccountService {
    /// Calls `RegisterAccount`.
    pub async fn register_account(
        &self,
        request: v1::RegisterAccountRequest,
    ) -> Result<v1::RegisterAccountResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `LogIn`.
    pub async fn log_in(
        &self,
        request: v1::LogInRequest,
    ) -> Result<v1::LogInResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `LogOut`.
    pub async fn log_out(
        &self,
        request: v1::LogOutRequest,
    ) -> Result<v1::LogOutResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `GetAccount`.
    pub async fn get_account(
        &self,
        request: v1::GetAccountRequest,
    ) -> Result<v1::GetAccountResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `ListAccounts`.
    pub async fn list_accounts(
        &self,
        request: v1::ListAccountsRequest,
    ) -> Result<v1::ListAccountsResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `UpdateAccount`.
    pub async fn update_account(
        &self,
        request: v1::UpdateAccountRequest,
    ) -> Result<v1::UpdateAccountResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `DisableAccount`.
    pub async fn disable_account(
        &self,
        request: v1::DisableAccountRequest,
    ) -> Result<v1::DisableAccountResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `EnableAccount`.
    pub async fn enable_account(
        &self,
        request: v1::EnableAccountRequest,
    ) -> Result<v1::EnableAccountResponse, crate::Error> {
        self.0.call(request).await
    }
}
impl Call for v1::RegisterAccountRequest {
    type Response = v1::RegisterAccountResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.AccountService/RegisterAccount",
        is_check: false,
        is_repeatable: false,
    };
    fn carried_secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        self.secrets(found);
    }
}
impl Call for v1::LogInRequest {
    type Response = v1::LogInResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.AccountService/LogIn",
        is_check: false,
        is_repeatable: false,
    };
    fn carried_secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        self.secrets(found);
    }
}
impl Call for v1::LogOutRequest {
    type Response = v1::LogOutResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.AccountService/LogOut",
        is_check: false,
        is_repeatable: false,
    };
}
impl Call for v1::GetAccountRequest {
    type Response = v1::GetAccountResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.AccountService/GetAccount",
        is_check: false,
        is_repeatable: true,
    };
}
impl Call for v1::ListAccountsRequest {
    type Response = v1::ListAccountsResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.AccountService/ListAccounts",
        is_check: false,
        is_repeatable: true,
    };
}
impl Call for v1::UpdateAccountRequest {
    type Response = v1::UpdateAccountResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.AccountService/UpdateAccount",
        is_check: false,
        is_repeatable: false,
    };
    fn carried_secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        self.secrets(found);
    }
}
impl Call for v1::DisableAccountRequest {
    type Response = v1::DisableAccountResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.AccountService/DisableAccount",
        is_check: false,
        is_repeatable: true,
    };
}
impl Call for v1::EnableAccountRequest {
    type Response = v1::EnableAccountResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.AccountService/EnableAccount",
        is_check: false,
        is_repeatable: true,
    };
}
/// The RPCs of `AuditService`.
#[derive(Clone, Debug)]
pub struct AuditService(pub(crate) crate::Client);
impl AuditService {
    /// Calls `ListAuditEvents`.
    pub async fn list_audit_events(
        &self,
        request: v1::ListAuditEventsRequest,
    ) -> Result<v1::ListAuditEventsResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `VerifyAuditEvents`.
    pub async fn verify_audit_events(
        &self,
        request: v1::VerifyAuditEventsRequest,
    ) -> Result<v1::VerifyAuditEventsResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `ExportAuditEvents`.
    pub async fn export_audit_events(
        &self,
        request: v1::ExportAuditEventsRequest,
    ) -> Result<v1::ExportAuditEventsResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `RecordAuditExport`.
    pub async fn record_audit_export(
        &self,
        request: v1::RecordAuditExportRequest,
    ) -> Result<v1::RecordAuditExportResponse, crate::Error> {
        self.0.call(request).await
    }
}
impl Call for v1::ListAuditEventsRequest {
    type Response = v1::ListAuditEventsResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.AuditService/ListAuditEvents",
        is_check: false,
        is_repeatable: true,
    };
}
impl Call for v1::VerifyAuditEventsRequest {
    type Response = v1::VerifyAuditEventsResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.AuditService/VerifyAuditEvents",
        is_check: false,
        is_repeatable: true,
    };
}
impl Call for v1::ExportAuditEventsRequest {
    type Response = v1::ExportAuditEventsResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.AuditService/ExportAuditEvents",
        is_check: false,
        is_repeatable: true,
    };
}
impl Call for v1::RecordAuditExportRequest {
    type Response = v1::RecordAuditExportResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.AuditService/RecordAuditExport",
        is_check: false,
        is_repeatable: true,
    };
}
impl Call for v1::AuthenticateRequest {
    type Response = v1::AuthenticateResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.AuthorizationService/Authenticate",
        is_check: true,
        is_repeatable: true,
    };
    fn carried_secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        self.secrets(found);
    }
}
impl Call for v1::CheckScopeRequest {
    type Response = v1::CheckScopeResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.AuthorizationService/CheckScope",
        is_check: true,
        is_repeatable: true,
    };
    fn carried_secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        self.secrets(found);
    }
}
impl Call for v1::BatchCheckScopeRequest {
    type Response = v1::BatchCheckScopeResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.AuthorizationService/BatchCheckScope",
        is_check: true,
        is_repeatable: true,
    };
    fn carried_secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        self.secrets(found);
    }
}
impl Call for v1::WhoAmIRequest {
    type Response = v1::WhoAmIResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.AuthorizationService/WhoAmI",
        is_check: true,
        is_repeatable: true,
    };
}
/// The RPCs of `KeyService`.
#[derive(Clone, Debug)]
pub struct KeyService(pub(crate) crate::Client);
impl KeyService {
    /// Calls `CreateKey`.
    pub async fn create_key(
        &self,
        request: v1::CreateKeyRequest,
    ) -> Result<v1::CreateKeyResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `ImportKeys`.
    pub async fn import_keys(
        &self,
        request: v1::ImportKeysRequest,
    ) -> Result<v1::ImportKeysResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `GetKey`.
    pub async fn get_key(
        &self,
        request: v1::GetKeyRequest,
    ) -> Result<v1::GetKeyResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `ListKeys`.
    pub async fn list_keys(
        &self,
        request: v1::ListKeysRequest,
    ) -> Result<v1::ListKeysResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `UpdateKey`.
    pub async fn update_key(
        &self,
        request: v1::UpdateKeyRequest,
    ) -> Result<v1::UpdateKeyResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `GetKeyUsage`.
    pub async fn get_key_usage(
        &self,
        request: v1::GetKeyUsageRequest,
    ) -> Result<v1::GetKeyUsageResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `RotateKey`.
    pub async fn rotate_key(
        &self,
        request: v1::RotateKeyRequest,
    ) -> Result<v1::RotateKeyResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `RevokeKey`.
    pub async fn revoke_key(
        &self,
        request: v1::RevokeKeyRequest,
    ) -> Result<v1::RevokeKeyResponse, crate::Error> {
        self.0.call(request).await
    }
}
impl Call for v1::CreateKeyRequest {
    type Response = v1::CreateKeyResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.KeyService/CreateKey",
        is_check: false,
        is_repeatable: true,
    };
    fn request_id(&mut self) -> Option<&mut String> {
        Some(&mut self.request_id)
    }
}
impl Call for v1::ImportKeysRequest {
    type Response = v1::ImportKeysResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.KeyService/ImportKeys",
        is_check: false,
        is_repeatable: false,
    };
    fn carried_secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        self.secrets(found);
    }
}
impl Call for v1::GetKeyRequest {
    type Response = v1::GetKeyResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.KeyService/GetKey",
        is_check: false,
        is_repeatable: true,
    };
}
impl Call for v1::ListKeysRequest {
    type Response = v1::ListKeysResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.KeyService/ListKeys",
        is_check: false,
        is_repeatable: true,
    };
}
impl Call for v1::UpdateKeyRequest {
    type Response = v1::UpdateKeyResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.KeyService/UpdateKey",
        is_check: false,
        is_repeatable: false,
    };
}
impl Call for v1::GetKeyUsageRequest {
    type Response = v1::GetKeyUsageResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.KeyService/GetKeyUsage",
        is_check: false,
        is_repeatable: true,
    };
}
impl Call for v1::RotateKeyRequest {
    type Response = v1::RotateKeyResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.KeyService/RotateKey",
        is_check: false,
        is_repeatable: true,
    };
    fn request_id(&mut self) -> Option<&mut String> {
        Some(&mut self.request_id)
    }
}
impl Call for v1::RevokeKeyRequest {
    type Response = v1::RevokeKeyResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.KeyService/RevokeKey",
        is_check: false,
        is_repeatable: true,
    };
}
/// The RPCs of `KeyspaceService`.
#[derive(Clone, Debug)]
pub struct KeyspaceService(pub(crate) crate::Client);
impl KeyspaceService {
    /// Calls `ApplyKeyspace`.
    pub async fn apply_keyspace(
        &self,
        request: v1::ApplyKeyspaceRequest,
    ) -> Result<v1::ApplyKeyspaceResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `GetKeyspace`.
    pub async fn get_keyspace(
        &self,
        request: v1::GetKeyspaceRequest,
    ) -> Result<v1::GetKeyspaceResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `ListKeyspaces`.
    pub async fn list_keyspaces(
        &self,
        request: v1::ListKeyspacesRequest,
    ) -> Result<v1::ListKeyspacesResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `ExplainScope`.
    pub async fn explain_scope(
        &self,
        request: v1::ExplainScopeRequest,
    ) -> Result<v1::ExplainScopeResponse, crate::Error> {
        self.0.call(request).await
    }
}
impl Call for v1::ApplyKeyspaceRequest {
    type Response = v1::ApplyKeyspaceResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.KeyspaceService/ApplyKeyspace",
        is_check: false,
        is_repeatable: true,
    };
}
impl Call for v1::GetKeyspaceRequest {
    type Response = v1::GetKeyspaceResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.KeyspaceService/GetKeyspace",
        is_check: false,
        is_repeatable: true,
    };
}
impl Call for v1::ListKeyspacesRequest {
    type Response = v1::ListKeyspacesResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.KeyspaceService/ListKeyspaces",
        is_check: false,
        is_repeatable: true,
    };
}
impl Call for v1::ExplainScopeRequest {
    type Response = v1::ExplainScopeResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.KeyspaceService/ExplainScope",
        is_check: false,
        is_repeatable: true,
    };
}
/// The RPCs of `ReplicationService`.
#[derive(Clone, Debug)]
pub struct ReplicationService(pub(crate) crate::Client);
impl ReplicationService {
    /// Calls `FetchFacts`.
    pub async fn fetch_facts(
        &self,
        request: v1::FetchFactsRequest,
    ) -> Result<v1::FetchFactsResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `FetchKeyspaces`.
    pub async fn fetch_keyspaces(
        &self,
        request: v1::FetchKeyspacesRequest,
    ) -> Result<v1::FetchKeyspacesResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `ReportUses`.
    pub async fn report_uses(
        &self,
        request: v1::ReportUsesRequest,
    ) -> Result<v1::ReportUsesResponse, crate::Error> {
        self.0.call(request).await
    }
    /// Calls `ListReplicas`.
    pub async fn list_replicas(
        &self,
        request: v1::ListReplicasRequest,
    ) -> Result<v1::ListReplicasResponse, crate::Error> {
        self.0.call(request).await
    }
}
impl Call for v1::FetchFactsRequest {
    type Response = v1::FetchFactsResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.ReplicationService/FetchFacts",
        is_check: true,
        is_repeatable: true,
    };
    fn carried_secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        self.secrets(found);
    }
}
impl Call for v1::FetchKeyspacesRequest {
    type Response = v1::FetchKeyspacesResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.ReplicationService/FetchKeyspaces",
        is_check: false,
        is_repeatable: true,
    };
}
impl Call for v1::ReportUsesRequest {
    type Response = v1::ReportUsesResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.ReplicationService/ReportUses",
        is_check: false,
        is_repeatable: false,
    };
}
impl Call for v1::ListReplicasRequest {
    type Response = v1::ListReplicasResponse;
    const RPC: Rpc = Rpc {
        path: "/keyfence.v1.ReplicationService/ListReplicas",
        is_check: false,
        is_repeatable: true,
    };
}
impl Secrets for v1::AuthenticateRequest {
    fn secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        found.push(&self.api_key);
    }
}
impl Secrets for v1::BatchCheckScopeRequest {
    fn secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        for inner in &self.checks {
            inner.secrets(found);
        }
    }
}
impl Secrets for v1::CheckScopeRequest {
    fn secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        found.push(&self.api_key);
    }
}
impl Secrets for v1::CreateKeyResponse {
    fn secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        found.push(&self.api_key);
    }
}
impl Secrets for v1::FetchFactsRequest {
    fn secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        found.push(&self.api_key);
    }
}
impl Secrets for v1::ImportKeysRequest {
    fn secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        for inner in &self.keys {
            inner.secrets(found);
        }
    }
}
impl Secrets for v1::KeyToImport {
    fn secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        if let Some(v1::key_to_import::Secret::ApiKey(text)) = &self.secret {
            found.push(text);
        }
        if let Some(v1::key_to_import::Secret::PasswordHash(inner)) = &self.secret {
            inner.secrets(found);
        }
    }
}
impl Secrets for v1::LogInRequest {
    fn secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        found.push(&self.password);
    }
}
impl Secrets for v1::LogInResponse {
    fn secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        found.push(&self.session_token);
    }
}
impl Secrets for v1::PasswordHash {
    fn secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        found.push(&self.hash);
    }
}
impl Secrets for v1::RegisterAccountRequest {
    fn secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        found.push(&self.password);
    }
}
impl Secrets for v1::RotateKeyResponse {
    fn secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        found.push(&self.api_key);
    }
}
impl Secrets for v1::UpdateAccountRequest {
    fn secrets<'a>(&'a self, found: &mut Vec<&'a str>) {
        found.push(&self.new_password);
        found.push(&self.current_password);
    }
}
