//! What the fake answers.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tonic::{Code, Request, Response, Status};

use super::server::{Fake, State, error, now};
use crate::options::lock;
use crate::secret::random_text;
use crate::v1::authorization_service_server::AuthorizationService;
use crate::v1::key_service_server::KeyService;
use crate::v1::keyspace_service_server::KeyspaceService;
use crate::v1::{
    self, KeyState, Keyspace, Principal, Reason, batch_check_scope_result, subject_change::Subject,
};

const KEY_PREFIX: &str = "kf_live_";
const MAX_CHECKS: usize = 256;

/// The services, each over the same state.
#[derive(Clone, Debug)]
pub(super) struct Services(pub(super) Arc<Fake>);

type Answer<T> = Result<Response<T>, Status>;

fn covers(grant: &str, scope: &str) -> bool {
    grant.strip_suffix('*').map_or(grant == scope, |prefix| scope.starts_with(prefix))
}

/// Whether the address is in the network, which may be a single address.
fn is_in(network: &str, address: &str) -> bool {
    let (first, length) = network.split_once('/').unwrap_or((network, "128"));
    let (Ok(first), Ok(address), Ok(length)) =
        (first.parse::<IpAddr>(), address.parse::<IpAddr>(), length.parse::<u32>())
    else {
        return false;
    };
    // The bits of an address stand at the left, so that a prefix means the same in both families.
    let bits = |address: IpAddr| match address.to_canonical() {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, true),
        IpAddr::V6(address) => (u128::from(address), false),
    };
    let ((first, first_is_v4), (address, is_v4)) = (bits(first), bits(address));
    first_is_v4 == is_v4
        && (first ^ address).checked_shr(128_u32.saturating_sub(length)).unwrap_or_default() == 0
}

impl State {
    /// The registered scopes that the granted ones come to.
    fn effective(&self, keyspace: &str, granted: &[String]) -> Vec<String> {
        let declared = self.keyspaces.get(keyspace).map_or(&[][..], |keyspace| &keyspace.scopes);
        let is_granted = |name: &str| granted.iter().any(|grant| covers(grant, name));
        let mut waiting: Vec<&v1::Scope> = declared.iter().filter(|scope| is_granted(&scope.name)).collect();
        let mut held = BTreeSet::new();
        while let Some(scope) = waiting.pop() {
            if held.insert(scope.name.clone()) {
                waiting.extend(declared.iter().filter(|other| scope.implies.contains(&other.name)));
            }
        }
        held.into_iter().collect()
    }

    fn keyspace(&self, name: &str) -> Result<&Keyspace, Status> {
        self.keyspaces.get(name).ok_or_else(|| {
            error(Code::NotFound, "KEYSPACE_NOT_FOUND", &format!("there is no keyspace {name}"), &[])
        })
    }

    fn key(&mut self, key_id: &str) -> Result<&mut v1::Key, Status> {
        let found = self.keys.values_mut().find(|key| key.key_id == key_id);
        found.ok_or_else(|| error(Code::NotFound, "KEY_NOT_FOUND", &format!("there is no key {key_id}"), &[]))
    }

    /// Why a key does not pass, scopes aside, and its record.
    fn judge(
        &self,
        api_key: &str,
        keyspace: &str,
        address: &str,
    ) -> Result<(Reason, Option<&v1::Key>), Status> {
        if !keyspace.is_empty() {
            self.keyspace(keyspace)?;
        }
        let Some(known) = self.keys.get(api_key) else {
            let reason = match api_key {
                "" => Reason::CredentialMissing,
                key if key.starts_with(KEY_PREFIX) => Reason::KeyUnknown,
                _ => Reason::CredentialMalformed,
            };
            return Ok((reason, None));
        };
        if !keyspace.is_empty() && known.keyspace != keyspace {
            return Ok((Reason::KeyspaceMismatch, None));
        }
        let is_expired = known.expire_time.is_some_and(|time| {
            SystemTime::try_from(time).is_ok_and(|expires_at| SystemTime::now() >= expires_at)
        });
        let allowed = &known.allowed_addresses;
        let reason = match known.state() {
            KeyState::Revoked => Reason::KeyRevoked,
            _ if is_expired => Reason::KeyExpired,
            KeyState::Disabled => Reason::KeyDisabled,
            _ if !allowed.is_empty() && !allowed.iter().any(|one| is_in(one, address)) => {
                Reason::AddressNotAllowed
            }
            _ => Reason::Ok,
        };
        Ok((reason, Some(known)))
    }

    fn check(&self, request: &v1::CheckScopeRequest) -> Result<v1::CheckScopeResponse, Status> {
        if request.required_scopes.is_empty() {
            return Err(error(
                Code::InvalidArgument,
                "INVALID_FIELD",
                "required_scopes: 1 to 64 scopes",
                &[],
            ));
        }
        let (mut reason, known) = self.judge(&request.api_key, &request.keyspace, &request.client_address)?;
        let keyspace = known.map_or(&request.keyspace, |key| &key.keyspace);
        if let Some(declared) = self.keyspaces.get(keyspace) {
            for scope in &request.required_scopes {
                if !declared.scopes.iter().any(|one| one.name == *scope) {
                    let message = format!("keyspace {keyspace} registers no scope {scope}");
                    return Err(error(Code::InvalidArgument, "UNKNOWN_SCOPE", &message, &[("scope", scope)]));
                }
            }
        }
        let mut missing_scopes: Vec<String> = Vec::new();
        if let (Reason::Ok, Some(key)) = (reason, known) {
            for scope in &request.required_scopes {
                if !key.effective_scopes.contains(scope) && !missing_scopes.contains(scope) {
                    missing_scopes.push(scope.clone());
                }
            }
        }
        if !missing_scopes.is_empty() {
            reason = Reason::ScopeMissing;
        }
        Ok(v1::CheckScopeResponse {
            allowed: reason == Reason::Ok,
            reason: reason.into(),
            missing_scopes,
            principal: known.map(principal_of),
            revision: self.revision,
            ..v1::CheckScopeResponse::default()
        })
    }
}

pub(super) fn principal_of(key: &v1::Key) -> Principal {
    Principal {
        key_id: key.key_id.clone(),
        account_id: key.account_id.clone(),
        keyspace: key.keyspace.clone(),
        key_type: key.key_type.clone(),
        environment: key.environment.clone(),
        display_name: key.display_name.clone(),
        granted_scopes: key.granted_scopes.clone(),
        effective_scopes: key.effective_scopes.clone(),
        expire_time: key.expire_time,
        display_prefix: key.display_prefix.clone(),
        labels: key.labels.clone(),
        ..Principal::default()
    }
}

#[tonic::async_trait]
impl AuthorizationService for Services {
    async fn authenticate(
        &self,
        request: Request<v1::AuthenticateRequest>,
    ) -> Answer<v1::AuthenticateResponse> {
        let request = request.into_inner();
        let state = lock(&self.0.state);
        let (reason, known) = state.judge(&request.api_key, &request.keyspace, &request.client_address)?;
        Ok(Response::new(v1::AuthenticateResponse {
            authenticated: reason == Reason::Ok,
            reason: reason.into(),
            principal: known.map(principal_of),
            revision: state.revision,
            ..v1::AuthenticateResponse::default()
        }))
    }

    async fn check_scope(&self, request: Request<v1::CheckScopeRequest>) -> Answer<v1::CheckScopeResponse> {
        lock(&self.0.state).check(&request.into_inner()).map(Response::new)
    }

    async fn batch_check_scope(
        &self,
        request: Request<v1::BatchCheckScopeRequest>,
    ) -> Answer<v1::BatchCheckScopeResponse> {
        let checks = request.into_inner().checks;
        if checks.is_empty() || checks.len() > MAX_CHECKS {
            return Err(error(Code::InvalidArgument, "INVALID_FIELD", "checks: 1 to 256", &[]));
        }
        let state = lock(&self.0.state);
        let result = |check| match state.check(check) {
            Ok(response) => batch_check_scope_result::Result::Response(response),
            Err(status) => batch_check_scope_result::Result::Error(check_error(&status)),
        };
        let results = checks.iter().map(|check| v1::BatchCheckScopeResult { result: Some(result(check)) });
        Ok(Response::new(v1::BatchCheckScopeResponse { results: results.collect() }))
    }

    async fn who_am_i(&self, _request: Request<v1::WhoAmIRequest>) -> Answer<v1::WhoAmIResponse> {
        let principal = Principal {
            key_id: "key_fake".to_owned(),
            keyspace: "system".to_owned(),
            account_id: "operators".to_owned(),
            bound_keyspaces: vec!["*".to_owned()],
            granted_scopes: vec!["*".to_owned()],
            ..Principal::default()
        };
        Ok(Response::new(v1::WhoAmIResponse {
            principal: Some(principal),
            revision: lock(&self.0.state).revision,
        }))
    }
}

fn check_error(status: &Status) -> v1::CheckError {
    let failed = crate::errors::CallError::of_status(status, &[]);
    v1::CheckError {
        code: status.code() as i32,
        reason: failed.reason,
        message: failed.message,
        metadata: failed.metadata.into_iter().collect(),
    }
}

/// Makes a key, once for each request id.
pub(super) async fn create_key(
    fake: &Fake,
    request: v1::CreateKeyRequest,
) -> Result<v1::CreateKeyResponse, Status> {
    let api_key = format!("{KEY_PREFIX}{}", random_text());
    let key_id = format!("key_{}", random_text());
    {
        let mut state = lock(&fake.state);
        state.keyspace(&request.keyspace)?;
        if !request.request_id.is_empty() {
            if let Some(made) = state.requests.get(&request.request_id) {
                let message = "the request has made a key before";
                return Err(error(Code::AlreadyExists, "REQUEST_ALREADY_DONE", message, &[("key_id", made)]));
            }
            state.requests.insert(request.request_id.clone(), key_id.clone());
        }
        let key = v1::Key {
            key_id: key_id.clone(),
            effective_scopes: state.effective(&request.keyspace, &request.scopes),
            keyspace: request.keyspace,
            account_id: request.account_id,
            display_name: request.display_name,
            granted_scopes: request.scopes,
            state: KeyState::Active.into(),
            expire_time: request.expire_time,
            allowed_addresses: request.allowed_addresses,
            labels: request.labels,
            create_time: Some(now()),
            display_prefix: api_key.chars().take(KEY_PREFIX.len() + 4).collect(),
            ..v1::Key::default()
        };
        state.keys.insert(api_key.clone(), key);
    }
    let revision = fake.commit(Subject::KeyId(key_id.clone()), true).await;
    let key = committed(fake, &key_id, revision)?;
    Ok(v1::CreateKeyResponse { key: Some(key), api_key, revision })
}

/// Revokes a key. When it returns, no cache accepts the key.
pub(super) async fn revoke_key(fake: &Fake, key_id: &str) -> Result<v1::Key, Status> {
    {
        let mut state = lock(&fake.state);
        let key = state.key(key_id)?;
        key.set_state(KeyState::Revoked);
        key.revoke_time = Some(now());
    }
    let revision = fake.commit(Subject::KeyId(key_id.to_owned()), false).await;
    committed(fake, key_id, revision)
}

/// The record as its change leaves it, with the revision of the change.
fn committed(fake: &Fake, key_id: &str, revision: i64) -> Result<v1::Key, Status> {
    let mut state = lock(&fake.state);
    let key = state.key(key_id)?;
    key.revision = revision;
    Ok(key.clone())
}

fn update(state: &mut State, key: &v1::Key, path: &str) -> Result<(), Status> {
    let keyspace = state.key(&key.key_id)?.keyspace.clone();
    let effective = state.effective(&keyspace, &key.granted_scopes);
    let known = state.key(&key.key_id)?;
    match path {
        "granted_scopes" => {
            known.granted_scopes.clone_from(&key.granted_scopes);
            known.effective_scopes = effective;
        }
        "state" => known.state = key.state,
        "expire_time" => known.expire_time = key.expire_time,
        "allowed_addresses" => known.allowed_addresses.clone_from(&key.allowed_addresses),
        "display_name" => known.display_name.clone_from(&key.display_name),
        "labels" => known.labels.clone_from(&key.labels),
        _ => {
            let message = format!("update_mask: the fake does not change {path}");
            return Err(error(Code::InvalidArgument, "INVALID_FIELD", &message, &[]));
        }
    }
    Ok(())
}

#[tonic::async_trait]
impl KeyService for Services {
    async fn create_key(&self, request: Request<v1::CreateKeyRequest>) -> Answer<v1::CreateKeyResponse> {
        create_key(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn get_key(&self, request: Request<v1::GetKeyRequest>) -> Answer<v1::GetKeyResponse> {
        let key = lock(&self.0.state).key(&request.into_inner().key_id)?.clone();
        Ok(Response::new(v1::GetKeyResponse { key: Some(key) }))
    }

    async fn list_keys(&self, request: Request<v1::ListKeysRequest>) -> Answer<v1::ListKeysResponse> {
        let request = request.into_inner();
        let state = lock(&self.0.state);
        let fits = |key: &&v1::Key| {
            key.keyspace == request.keyspace
                && (request.account_id.is_empty() || key.account_id == request.account_id)
                && (request.state == 0 || key.state == request.state)
        };
        let mut keys: Vec<v1::Key> = state.keys.values().filter(fits).cloned().collect();
        keys.sort_by_key(|key| key.revision);
        Ok(Response::new(v1::ListKeysResponse { keys, ..v1::ListKeysResponse::default() }))
    }

    async fn update_key(&self, request: Request<v1::UpdateKeyRequest>) -> Answer<v1::UpdateKeyResponse> {
        let request = request.into_inner();
        let key = request.key.unwrap_or_default();
        {
            let mut state = lock(&self.0.state);
            for path in request.update_mask.unwrap_or_default().paths {
                update(&mut state, &key, &path)?;
            }
        }
        let revision = self.0.commit(Subject::KeyId(key.key_id.clone()), false).await;
        let key = Some(committed(&self.0, &key.key_id, revision)?);
        Ok(Response::new(v1::UpdateKeyResponse { key, revision }))
    }

    async fn get_key_usage(
        &self,
        _request: Request<v1::GetKeyUsageRequest>,
    ) -> Answer<v1::GetKeyUsageResponse> {
        Err(Status::unimplemented("the fake counts no days"))
    }

    async fn rotate_key(&self, _request: Request<v1::RotateKeyRequest>) -> Answer<v1::RotateKeyResponse> {
        Err(Status::unimplemented("the fake rotates no keys"))
    }

    async fn import_keys(&self, _request: Request<v1::ImportKeysRequest>) -> Answer<v1::ImportKeysResponse> {
        Err(Status::unimplemented("the fake imports no keys"))
    }

    async fn revoke_key(&self, request: Request<v1::RevokeKeyRequest>) -> Answer<v1::RevokeKeyResponse> {
        let key = revoke_key(&self.0, &request.into_inner().key_id).await?;
        let revision = key.revision;
        Ok(Response::new(v1::RevokeKeyResponse { key: Some(key), revision }))
    }
}

#[tonic::async_trait]
impl KeyspaceService for Services {
    async fn apply_keyspace(
        &self,
        request: Request<v1::ApplyKeyspaceRequest>,
    ) -> Answer<v1::ApplyKeyspaceResponse> {
        let request = request.into_inner();
        let keyspace = request.keyspace.unwrap_or_default();
        if request.validate_only {
            return Ok(Response::new(v1::ApplyKeyspaceResponse {
                keyspace: Some(keyspace),
                ..v1::ApplyKeyspaceResponse::default()
            }));
        }
        {
            let mut state = lock(&self.0.state);
            state.keyspaces.insert(keyspace.name.clone(), keyspace.clone());
            let mut keys = std::mem::take(&mut state.keys);
            for key in keys.values_mut().filter(|key| key.keyspace == keyspace.name) {
                key.effective_scopes = state.effective(&keyspace.name, &key.granted_scopes);
            }
            state.keys = keys;
        }
        let revision = self.0.commit(Subject::Keyspace(keyspace.name.clone()), false).await;
        Ok(Response::new(v1::ApplyKeyspaceResponse {
            keyspace: Some(keyspace),
            revision,
            ..v1::ApplyKeyspaceResponse::default()
        }))
    }

    async fn get_keyspace(
        &self,
        request: Request<v1::GetKeyspaceRequest>,
    ) -> Answer<v1::GetKeyspaceResponse> {
        let keyspace = lock(&self.0.state).keyspace(&request.into_inner().name)?.clone();
        Ok(Response::new(v1::GetKeyspaceResponse { keyspace: Some(keyspace) }))
    }

    async fn list_keyspaces(
        &self,
        _request: Request<v1::ListKeyspacesRequest>,
    ) -> Answer<v1::ListKeyspacesResponse> {
        let keyspaces = lock(&self.0.state).keyspaces.values().cloned().collect();
        Ok(Response::new(v1::ListKeyspacesResponse { keyspaces, ..v1::ListKeyspacesResponse::default() }))
    }

    async fn explain_scope(
        &self,
        _request: Request<v1::ExplainScopeRequest>,
    ) -> Answer<v1::ExplainScopeResponse> {
        Err(Status::unimplemented("the fake explains no scopes"))
    }
}
