//! How the fake grants leases to caches.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::server::Fake;
use super::services::{Services, principal_of};
use crate::options::lock;
use crate::v1::replication_service_server::ReplicationService;
use crate::v1::{self, KeyState, Reason, subject_change::Subject, sync_request, sync_response};

const MAX_UNSENT: usize = 1024;
const LET_IN: &str = "x-keyfence-let-in";

/// A cache that may answer from memory.
#[derive(Debug)]
pub(super) struct Following {
    sender: mpsc::Sender<Result<v1::SyncResponse, Status>>,
    acknowledged: i64,
    until: Instant,
}

impl Following {
    /// Leaves out what a cache that takes nothing has no place for: it notices the gap.
    fn tell(&self, message: sync_response::Message) {
        let _ = self.sender.try_send(Ok(v1::SyncResponse { message: Some(message) }));
    }
}

impl Fake {
    /// Makes a new revision and returns when every cache has acknowledged it, or has no lease any
    /// more.
    pub(super) async fn commit(&self, subject: Subject, created: bool) -> i64 {
        let revision = {
            let mut state = lock(&self.state);
            state.revision += 1;
            let change =
                v1::SubjectChange { subject: Some(subject), created, ..v1::SubjectChange::default() };
            let changes = v1::RevisionChanges {
                revision: state.revision,
                changes: vec![change],
                ..v1::RevisionChanges::default()
            };
            for one in state.followers.values() {
                one.tell(sync_response::Message::Changes(changes.clone()));
            }
            state.revision
        };
        while self.is_awaited(revision) {
            // A lease can end without a message.
            let _ = timeout(Duration::from_millis(10), self.moved.notified()).await;
        }
        revision
    }

    fn is_awaited(&self, revision: i64) -> bool {
        let now = Instant::now();
        let state = lock(&self.state);
        state.followers.values().any(|one| one.acknowledged < revision && one.until > now)
    }

    fn renew(&self, number: u64, renew: &v1::Renew) {
        let mut state = lock(&self.state);
        let (head_revision, epoch, ttl) = (state.revision, state.epoch.clone(), state.ttl);
        let Some(one) = state.followers.get_mut(&number) else { return };
        one.acknowledged = one.acknowledged.max(renew.applied_revision);
        if renew.nonce != 0 {
            one.until = Instant::now() + ttl;
            one.tell(sync_response::Message::Lease(v1::Lease {
                nonce: renew.nonce,
                ttl: prost_types::Duration::try_from(ttl).ok(),
                head_revision,
                epoch,
                ..v1::Lease::default()
            }));
        }
        self.moved.notify_waiters();
    }

    async fn follow(&self, number: u64, mut messages: Streaming<v1::SyncRequest>) {
        while let Ok(Some(message)) = messages.message().await {
            match message.message {
                Some(sync_request::Message::Renew(renew)) => self.renew(number, &renew),
                Some(sync_request::Message::GivenUp(_)) => break,
                _ => {}
            }
        }
        let until = lock(&self.state).followers.get(&number).map(|one| one.until);
        // A cache that has left may still answer, until its lease has run out.
        tokio::time::sleep_until(until.unwrap_or_else(Instant::now)).await;
        lock(&self.state).followers.remove(&number);
    }
}

#[tonic::async_trait]
impl ReplicationService for Services {
    type SyncStream = Pin<Box<dyn Stream<Item = Result<v1::SyncResponse, Status>> + Send>>;

    async fn sync(
        &self,
        request: Request<Streaming<v1::SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let (sender, receiver) = mpsc::channel(MAX_UNSENT);
        let fake = Arc::clone(&self.0);
        let number = {
            let mut state = lock(&fake.state);
            let number = state.next_follower;
            state.next_follower += 1;
            state.followers.insert(number, Following { sender, acknowledged: 0, until: Instant::now() });
            number
        };
        tokio::spawn(async move { fake.follow(number, request.into_inner()).await });
        let stream: Self::SyncStream = Box::pin(ReceiverStream::new(receiver));
        let mut response = Response::new(stream);
        response.metadata_mut().insert(LET_IN, tonic::metadata::MetadataValue::from_static("1"));
        Ok(response)
    }

    async fn fetch_facts(
        &self,
        request: Request<v1::FetchFactsRequest>,
    ) -> Result<Response<v1::FetchFactsResponse>, Status> {
        let state = lock(&self.0.state);
        let known = state.keys.get(&request.into_inner().api_key);
        Ok(Response::new(v1::FetchFactsResponse {
            revision: state.revision,
            epoch: state.epoch.clone(),
            well_formed: known.is_some(),
            facts: known.map(facts_of),
            ..v1::FetchFactsResponse::default()
        }))
    }

    /// One keyspace a page, so that caches have to ask for the next one.
    async fn fetch_keyspaces(
        &self,
        request: Request<v1::FetchKeyspacesRequest>,
    ) -> Result<Response<v1::FetchKeyspacesResponse>, Status> {
        let state = lock(&self.0.state);
        let place: usize = request.into_inner().page_token.parse().unwrap_or_default();
        let is_last = place + 1 >= state.keyspaces.len();
        Ok(Response::new(v1::FetchKeyspacesResponse {
            keyspaces: state.keyspaces.values().skip(place).take(1).cloned().collect(),
            revision: state.revision,
            epoch: state.epoch.clone(),
            next_page_token: if is_last { String::new() } else { (place + 1).to_string() },
        }))
    }

    async fn report_uses(
        &self,
        request: Request<v1::ReportUsesRequest>,
    ) -> Result<Response<v1::ReportUsesResponse>, Status> {
        let mut state = lock(&self.0.state);
        for one in request.into_inner().uses {
            *state.uses.entry(one.key_id).or_default() += one.count;
        }
        Ok(Response::new(v1::ReportUsesResponse::default()))
    }

    async fn list_replicas(
        &self,
        _request: Request<v1::ListReplicasRequest>,
    ) -> Result<Response<v1::ListReplicasResponse>, Status> {
        Err(Status::unimplemented("the fake lists no replicas"))
    }
}

fn facts_of(key: &v1::Key) -> v1::KeyFacts {
    let standing = match key.state() {
        KeyState::Revoked => Reason::KeyRevoked,
        KeyState::Disabled => Reason::KeyDisabled,
        _ => Reason::Ok,
    };
    let networks = key.allowed_addresses.clone();
    v1::KeyFacts {
        principal: Some(principal_of(key)),
        standing: standing.into(),
        expire_time: key.expire_time,
        address_lists: if networks.is_empty() { Vec::new() } else { vec![v1::AddressList { networks }] },
        is_counted: false,
        depends_on: vec![
            format!("key:{}", key.key_id),
            format!("keyspace:{}", key.keyspace),
            format!("account:{}", key.account_id),
        ],
    }
}
