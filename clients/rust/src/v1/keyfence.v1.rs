// Generated from protos/keyfence/v1 by `make generate`. Do not edit.
/// Who may call an RPC, apart from the scope that the RPC names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum Access {
    /// The caller needs an operator credential that holds `required_scope`.
    /// An RPC that declares neither option is refused to everyone.
    Unspecified = 0,
    /// Any credential that authenticates may call the RPC; it learns of itself alone.
    AnyCredential = 1,
    /// Besides operators with `required_scope`, an account's own credential may
    /// call the RPC: a session, or a key of a type that manages keys. It acts on its own
    /// account alone.
    OperatorOrAccount = 2,
    /// Besides operators with `required_scope`, an account's session may call the RPC, but
    /// none of its keys. It acts on its own account alone.
    OperatorOrSession = 3,
    /// Every caller may call the RPC, without a credential. If the RPC names a scope as well, a
    /// credential that is sent must be accepted, and an operator needs the scope where the RPC is
    /// not open to every caller. If it names no scope, credentials are ignored.
    Public = 4,
}
impl Access {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "ACCESS_UNSPECIFIED",
            Self::AnyCredential => "ACCESS_ANY_CREDENTIAL",
            Self::OperatorOrAccount => "ACCESS_OPERATOR_OR_ACCOUNT",
            Self::OperatorOrSession => "ACCESS_OPERATOR_OR_SESSION",
            Self::Public => "ACCESS_PUBLIC",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "ACCESS_UNSPECIFIED" => Some(Self::Unspecified),
            "ACCESS_ANY_CREDENTIAL" => Some(Self::AnyCredential),
            "ACCESS_OPERATOR_OR_ACCOUNT" => Some(Self::OperatorOrAccount),
            "ACCESS_OPERATOR_OR_SESSION" => Some(Self::OperatorOrSession),
            "ACCESS_PUBLIC" => Some(Self::Public),
            _ => None,
        }
    }
}
/// A registered account. Keys may also belong to accounts that were never registered:
/// `Key.account_id` is the operator's to choose. Ids of registered accounts are made by
/// Keyfence and never meet those.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Account {
    /// The id, made by Keyfence, for example "usr_01jd2k7v9x4m8r5t6w3y1z0abc".
    #[prost(string, tag = "1")]
    pub account_id: ::prost::alloc::string::String,
    /// The keyspace.
    #[prost(string, tag = "2")]
    pub keyspace: ::prost::alloc::string::String,
    /// The e-mail address as it was given. Two addresses that differ in the case of
    /// letters alone are the same. It is not verified by Keyfence.
    #[prost(string, tag = "3")]
    pub email: ::prost::alloc::string::String,
    /// What people call the account. At most 200 characters; may be empty.
    #[prost(string, tag = "4")]
    pub display_name: ::prost::alloc::string::String,
    /// The plan: up to 63 lower-case letters, digits, `-` and `_`, or empty. Its meaning is
    /// the product's. Only operators choose it.
    #[prost(string, tag = "5")]
    pub plan: ::prost::alloc::string::String,
    /// Whether the account works.
    #[prost(enumeration = "AccountState", tag = "6")]
    pub state: i32,
    /// Free labels, as in `Key`. Only operators choose them.
    #[prost(map = "string, string", tag = "7")]
    pub labels: ::std::collections::HashMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
    /// When the account was registered.
    #[prost(message, optional, tag = "8")]
    pub create_time: ::core::option::Option<::prost_types::Timestamp>,
    /// When the record last changed.
    #[prost(message, optional, tag = "9")]
    pub update_time: ::core::option::Option<::prost_types::Timestamp>,
    /// When the account was disabled. Not set: it is not.
    #[prost(message, optional, tag = "10")]
    pub disable_time: ::core::option::Option<::prost_types::Timestamp>,
    /// The revision at which the record last changed.
    #[prost(int64, tag = "11")]
    pub revision: i64,
}
/// A session: the time from a log-in to a log-out, or to its end.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Session {
    /// The id, made by Keyfence, for example "ses_01jd2k7v9x4m8r5t6w3y1z0abc". Not a secret.
    #[prost(string, tag = "1")]
    pub session_id: ::prost::alloc::string::String,
    /// The account that logged in.
    #[prost(string, tag = "2")]
    pub account_id: ::prost::alloc::string::String,
    /// The account's keyspace.
    #[prost(string, tag = "3")]
    pub keyspace: ::prost::alloc::string::String,
    /// When the session began.
    #[prost(message, optional, tag = "4")]
    pub create_time: ::core::option::Option<::prost_types::Timestamp>,
    /// When the session ends by itself.
    #[prost(message, optional, tag = "5")]
    pub expire_time: ::core::option::Option<::prost_types::Timestamp>,
}
/// The request of `RegisterAccount`.
#[derive(Clone, PartialEq, ::prost::Message)]
#[prost(skip_debug)]
pub struct RegisterAccountRequest {
    /// The keyspace.
    #[prost(string, tag = "1")]
    pub keyspace: ::prost::alloc::string::String,
    /// The e-mail address: at most 254 ASCII characters. A domain with other characters is
    /// written in its ASCII form ("xn--...").
    #[prost(string, tag = "2")]
    pub email: ::prost::alloc::string::String,
    /// The password: as many characters as the keyspace demands, at most 1024 bytes.
    #[prost(string, tag = "3")]
    pub password: ::prost::alloc::string::String,
    /// As in `Account`.
    #[prost(string, tag = "4")]
    pub display_name: ::prost::alloc::string::String,
    /// As in `Account`. Empty: the keyspace's default plan.
    #[prost(string, tag = "5")]
    pub plan: ::prost::alloc::string::String,
    /// As in `Account`.
    #[prost(map = "string, string", tag = "6")]
    pub labels: ::std::collections::HashMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
}
/// The response of `RegisterAccount`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RegisterAccountResponse {
    /// The account.
    #[prost(message, optional, tag = "1")]
    pub account: ::core::option::Option<Account>,
    /// The revision of the mutation.
    #[prost(int64, tag = "2")]
    pub revision: i64,
}
/// The request of `LogIn`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
#[prost(skip_debug)]
pub struct LogInRequest {
    /// The keyspace.
    #[prost(string, tag = "1")]
    pub keyspace: ::prost::alloc::string::String,
    /// The e-mail address that the account was registered with.
    #[prost(string, tag = "2")]
    pub email: ::prost::alloc::string::String,
    /// The password.
    #[prost(string, tag = "3")]
    pub password: ::prost::alloc::string::String,
}
/// The response of `LogIn`.
#[derive(Clone, PartialEq, ::prost::Message)]
#[prost(skip_debug)]
pub struct LogInResponse {
    /// The session's token: a signed JWT, to be sent as `authorization: Bearer ...`. It
    /// cannot be had again. What it says is for Keyfence alone.
    #[prost(string, tag = "1")]
    pub session_token: ::prost::alloc::string::String,
    /// The session.
    #[prost(message, optional, tag = "2")]
    pub session: ::core::option::Option<Session>,
    /// The account.
    #[prost(message, optional, tag = "3")]
    pub account: ::core::option::Option<Account>,
    /// The revision of the mutation.
    #[prost(int64, tag = "4")]
    pub revision: i64,
}
/// The request of `LogOut`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct LogOutRequest {
    /// The account whose sessions to end. A session may leave it empty: its own account.
    #[prost(string, tag = "1")]
    pub account_id: ::prost::alloc::string::String,
    /// Whether to end all sessions of the account. An operator, who has no session, must
    /// say so; a session that does not ends itself alone.
    #[prost(bool, tag = "2")]
    pub all_sessions: bool,
    /// Whether to revoke the keys that were made in the ended session, and the keys that those
    /// made. With `all_sessions`, the keys that were made in any session of the account,
    /// including sessions that ended before.
    #[prost(bool, tag = "3")]
    pub revoke_keys: bool,
}
/// The response of `LogOut`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct LogOutResponse {
    /// The revision of the mutation.
    #[prost(int64, tag = "1")]
    pub revision: i64,
    /// How many keys were revoked.
    #[prost(int64, tag = "2")]
    pub revoked_key_count: i64,
}
/// The request of `GetAccount`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct GetAccountRequest {
    /// The account. A session may leave it empty: its own.
    #[prost(string, tag = "1")]
    pub account_id: ::prost::alloc::string::String,
}
/// The response of `GetAccount`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct GetAccountResponse {
    /// The account.
    #[prost(message, optional, tag = "1")]
    pub account: ::core::option::Option<Account>,
}
/// The request of `ListAccounts`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ListAccountsRequest {
    /// The keyspace.
    #[prost(string, tag = "1")]
    pub keyspace: ::prost::alloc::string::String,
    /// At most so many accounts: 1 to 1000. Zero: 100.
    #[prost(int32, tag = "2")]
    pub page_size: i32,
    /// The `next_page_token` of the page before. The other fields must be as they were.
    #[prost(string, tag = "3")]
    pub page_token: ::prost::alloc::string::String,
    /// Only accounts in this state. Unspecified: in any.
    #[prost(enumeration = "AccountState", tag = "4")]
    pub state: i32,
    /// Only the account with this e-mail address. Empty: all.
    #[prost(string, tag = "5")]
    pub email: ::prost::alloc::string::String,
}
/// The response of `ListAccounts`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListAccountsResponse {
    /// The accounts.
    #[prost(message, repeated, tag = "1")]
    pub accounts: ::prost::alloc::vec::Vec<Account>,
    /// For the next page. Empty: this was the last.
    #[prost(string, tag = "2")]
    pub next_page_token: ::prost::alloc::string::String,
}
/// The request of `UpdateAccount`.
#[derive(Clone, PartialEq, ::prost::Message)]
#[prost(skip_debug)]
pub struct UpdateAccountRequest {
    /// The account as it should become. `account_id` says which; a session may leave it
    /// empty: its own.
    #[prost(message, optional, tag = "1")]
    pub account: ::core::option::Option<Account>,
    /// What to change, of: `email`, `display_name`, and for operators `plan`, `labels`. May
    /// be empty if `new_password` is set.
    #[prost(message, optional, tag = "2")]
    pub update_mask: ::core::option::Option<::prost_types::FieldMask>,
    /// Change it only if the account's revision is still this one. Zero: in any case.
    #[prost(int64, tag = "3")]
    pub if_revision: i64,
    /// The new password. Empty: it stays.
    #[prost(string, tag = "4")]
    pub new_password: ::prost::alloc::string::String,
    /// The password as it is. A session needs it to change the e-mail address or the
    /// password; operators do not.
    #[prost(string, tag = "5")]
    pub current_password: ::prost::alloc::string::String,
    /// With `new_password`: whether to revoke the keys that were made in any other session of the
    /// account, including sessions that ended before, and the keys that those made.
    #[prost(bool, tag = "6")]
    pub revoke_keys: bool,
}
/// The response of `UpdateAccount`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct UpdateAccountResponse {
    /// The account as it is now.
    #[prost(message, optional, tag = "1")]
    pub account: ::core::option::Option<Account>,
    /// The revision of the mutation.
    #[prost(int64, tag = "2")]
    pub revision: i64,
    /// How many keys were revoked.
    #[prost(int64, tag = "3")]
    pub revoked_key_count: i64,
}
/// The request of `DisableAccount`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct DisableAccountRequest {
    /// The account.
    #[prost(string, tag = "1")]
    pub account_id: ::prost::alloc::string::String,
    /// Why, for the audit log. At most 200 characters.
    #[prost(string, tag = "2")]
    pub comment: ::prost::alloc::string::String,
}
/// The response of `DisableAccount`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct DisableAccountResponse {
    /// The account as it is now.
    #[prost(message, optional, tag = "1")]
    pub account: ::core::option::Option<Account>,
    /// The revision of the mutation.
    #[prost(int64, tag = "2")]
    pub revision: i64,
}
/// The request of `EnableAccount`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct EnableAccountRequest {
    /// The account.
    #[prost(string, tag = "1")]
    pub account_id: ::prost::alloc::string::String,
    /// Why, for the audit log. At most 200 characters.
    #[prost(string, tag = "2")]
    pub comment: ::prost::alloc::string::String,
}
/// The response of `EnableAccount`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct EnableAccountResponse {
    /// The account as it is now.
    #[prost(message, optional, tag = "1")]
    pub account: ::core::option::Option<Account>,
    /// The revision of the mutation.
    #[prost(int64, tag = "2")]
    pub revision: i64,
}
/// Whether an account works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum AccountState {
    /// In a filter: any. Never sent.
    Unspecified = 0,
    /// The account works.
    Active = 1,
    /// The account was disabled, and with it its keys.
    Disabled = 2,
}
impl AccountState {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "ACCOUNT_STATE_UNSPECIFIED",
            Self::Active => "ACCOUNT_STATE_ACTIVE",
            Self::Disabled => "ACCOUNT_STATE_DISABLED",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "ACCOUNT_STATE_UNSPECIFIED" => Some(Self::Unspecified),
            "ACCOUNT_STATE_ACTIVE" => Some(Self::Active),
            "ACCOUNT_STATE_DISABLED" => Some(Self::Disabled),
            _ => None,
        }
    }
}
/// Generated server implementations.
#[cfg(feature = "testing")]
pub mod account_service_server {
    #![allow(
        unused_variables,
        dead_code,
        missing_docs,
        clippy::wildcard_imports,
        clippy::let_unit_value,
    )]
    use tonic::codegen::*;
    /// Generated trait containing gRPC methods that should be implemented for use with AccountServiceServer.
    #[async_trait]
    pub trait AccountService: std::marker::Send + std::marker::Sync + 'static {
        /// Makes an account. Every caller may, where the keyspace's registration is open. Where it
        /// is closed, only an operator with `accounts:write` may. A call that carries a credential is
        /// refused if that is not accepted, even where none is needed.
        ///
        /// Errors: `INVALID_FIELD`, `KEYSPACE_NOT_FOUND`, `KEYSPACE_NOT_BOUND`, `REGISTRATION_CLOSED`,
        /// `EMAIL_TAKEN`, `TOO_MANY_ATTEMPTS`, `LIMIT_REACHED`.
        async fn register_account(
            &self,
            request: tonic::Request<super::RegisterAccountRequest>,
        ) -> std::result::Result<
            tonic::Response<super::RegisterAccountResponse>,
            tonic::Status,
        >;
        /// Begins a session. A credential that comes with the call is not looked at.
        ///
        /// An e-mail address that is not known and a password that is wrong have one answer,
        /// which takes the same work.
        ///
        /// Errors: `INVALID_FIELD`, `KEYSPACE_NOT_FOUND`, `LOG_IN_FAILED`, `ACCOUNT_IS_DISABLED`
        /// (if the password is right), `TOO_MANY_ATTEMPTS`, `LIMIT_REACHED`,
        /// `SESSIONS_NOT_SET_UP`.
        async fn log_in(
            &self,
            request: tonic::Request<super::LogInRequest>,
        ) -> std::result::Result<tonic::Response<super::LogInResponse>, tonic::Status>;
        /// Ends the session that makes the call, or all sessions of an account. Once this has
        /// returned OK, nothing accepts them. Ending what has ended is OK again, as far as the
        /// caller's credential still passes.
        ///
        /// Errors: `INVALID_FIELD`, `ACCOUNT_NOT_FOUND`, `SESSION_REQUIRED`, `QUOTA_REACHED`.
        async fn log_out(
            &self,
            request: tonic::Request<super::LogOutRequest>,
        ) -> std::result::Result<tonic::Response<super::LogOutResponse>, tonic::Status>;
        /// Reads an account.
        ///
        /// Errors: `INVALID_FIELD`, `ACCOUNT_NOT_FOUND`, `SESSION_REQUIRED`.
        async fn get_account(
            &self,
            request: tonic::Request<super::GetAccountRequest>,
        ) -> std::result::Result<
            tonic::Response<super::GetAccountResponse>,
            tonic::Status,
        >;
        /// Lists accounts, oldest first. Pages stay stable while accounts are made and changed.
        ///
        /// Errors: `INVALID_FIELD`, `KEYSPACE_NOT_FOUND`, `KEYSPACE_NOT_BOUND`.
        async fn list_accounts(
            &self,
            request: tonic::Request<super::ListAccountsRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ListAccountsResponse>,
            tonic::Status,
        >;
        /// Changes an account: its name, e-mail address or password; by an operator also its
        /// plan and labels. A session must give the current password to change the address or
        /// the password. A new password ends every session of the account but the one that
        /// made the call.
        ///
        /// Errors: `INVALID_FIELD`, `ACCOUNT_NOT_FOUND`, `EMAIL_TAKEN`, `PASSWORD_REJECTED`,
        /// `REVISION_CHANGED`, `SESSION_REQUIRED`, `TOO_MANY_ATTEMPTS`, `LIMIT_REACHED`,
        /// `QUOTA_REACHED`.
        async fn update_account(
            &self,
            request: tonic::Request<super::UpdateAccountRequest>,
        ) -> std::result::Result<
            tonic::Response<super::UpdateAccountResponse>,
            tonic::Status,
        >;
        /// Stops an account: its sessions end for good, and its keys do not work until the
        /// account is enabled again. Once this has returned OK, nothing accepts any of them.
        /// Disabling a disabled account is OK again.
        ///
        /// Errors: `INVALID_FIELD`, `ACCOUNT_NOT_FOUND`.
        async fn disable_account(
            &self,
            request: tonic::Request<super::DisableAccountRequest>,
        ) -> std::result::Result<
            tonic::Response<super::DisableAccountResponse>,
            tonic::Status,
        >;
        /// Lets a disabled account and its keys work again. Its sessions do not come back.
        ///
        /// Errors: `INVALID_FIELD`, `ACCOUNT_NOT_FOUND`.
        async fn enable_account(
            &self,
            request: tonic::Request<super::EnableAccountRequest>,
        ) -> std::result::Result<
            tonic::Response<super::EnableAccountResponse>,
            tonic::Status,
        >;
    }
    /// Registers accounts and logs them in, for keyspaces that declare `accounts`. A session
    /// manages its own account and that account's keys, and nothing else; an operator
    /// manages the accounts of the keyspaces that the credential is bound to.
    /// Every answer to a mutation comes when the mutation holds everywhere.
    ///
    /// Log-ins are throttled by the client's address where that is known, and registrations
    /// always. A throttled call fails with `TOO_MANY_ATTEMPTS`, which says when to try again.
    #[derive(Debug)]
    pub struct AccountServiceServer<T> {
        inner: Arc<T>,
        accept_compression_encodings: EnabledCompressionEncodings,
        send_compression_encodings: EnabledCompressionEncodings,
        max_decoding_message_size: Option<usize>,
        max_encoding_message_size: Option<usize>,
    }
    impl<T> AccountServiceServer<T> {
        pub fn new(inner: T) -> Self {
            Self::from_arc(Arc::new(inner))
        }
        pub fn from_arc(inner: Arc<T>) -> Self {
            Self {
                inner,
                accept_compression_encodings: Default::default(),
                send_compression_encodings: Default::default(),
                max_decoding_message_size: None,
                max_encoding_message_size: None,
            }
        }
        pub fn with_interceptor<F>(
            inner: T,
            interceptor: F,
        ) -> InterceptedService<Self, F>
        where
            F: tonic::service::Interceptor,
        {
            InterceptedService::new(Self::new(inner), interceptor)
        }
        /// Enable decompressing requests with the given encoding.
        #[must_use]
        pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.accept_compression_encodings.enable(encoding);
            self
        }
        /// Compress responses with the given encoding, if the client supports it.
        #[must_use]
        pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.send_compression_encodings.enable(encoding);
            self
        }
        /// Limits the maximum size of a decoded message.
        ///
        /// Default: `4MB`
        #[must_use]
        pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
            self.max_decoding_message_size = Some(limit);
            self
        }
        /// Limits the maximum size of an encoded message.
        ///
        /// Default: `usize::MAX`
        #[must_use]
        pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
            self.max_encoding_message_size = Some(limit);
            self
        }
    }
    impl<T, B> tonic::codegen::Service<http::Request<B>> for AccountServiceServer<T>
    where
        T: AccountService,
        B: Body + std::marker::Send + 'static,
        B::Error: Into<StdError> + std::marker::Send + 'static,
    {
        type Response = http::Response<tonic::body::Body>;
        type Error = std::convert::Infallible;
        type Future = BoxFuture<Self::Response, Self::Error>;
        fn poll_ready(
            &mut self,
            _cx: &mut Context<'_>,
        ) -> Poll<std::result::Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, req: http::Request<B>) -> Self::Future {
            match req.uri().path() {
                "/keyfence.v1.AccountService/RegisterAccount" => {
                    #[allow(non_camel_case_types)]
                    struct RegisterAccountSvc<T: AccountService>(pub Arc<T>);
                    impl<
                        T: AccountService,
                    > tonic::server::UnaryService<super::RegisterAccountRequest>
                    for RegisterAccountSvc<T> {
                        type Response = super::RegisterAccountResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::RegisterAccountRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as AccountService>::register_account(&inner, request)
                                    .await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = RegisterAccountSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.AccountService/LogIn" => {
                    #[allow(non_camel_case_types)]
                    struct LogInSvc<T: AccountService>(pub Arc<T>);
                    impl<
                        T: AccountService,
                    > tonic::server::UnaryService<super::LogInRequest> for LogInSvc<T> {
                        type Response = super::LogInResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::LogInRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as AccountService>::log_in(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = LogInSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.AccountService/LogOut" => {
                    #[allow(non_camel_case_types)]
                    struct LogOutSvc<T: AccountService>(pub Arc<T>);
                    impl<
                        T: AccountService,
                    > tonic::server::UnaryService<super::LogOutRequest>
                    for LogOutSvc<T> {
                        type Response = super::LogOutResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::LogOutRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as AccountService>::log_out(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = LogOutSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.AccountService/GetAccount" => {
                    #[allow(non_camel_case_types)]
                    struct GetAccountSvc<T: AccountService>(pub Arc<T>);
                    impl<
                        T: AccountService,
                    > tonic::server::UnaryService<super::GetAccountRequest>
                    for GetAccountSvc<T> {
                        type Response = super::GetAccountResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::GetAccountRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as AccountService>::get_account(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = GetAccountSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.AccountService/ListAccounts" => {
                    #[allow(non_camel_case_types)]
                    struct ListAccountsSvc<T: AccountService>(pub Arc<T>);
                    impl<
                        T: AccountService,
                    > tonic::server::UnaryService<super::ListAccountsRequest>
                    for ListAccountsSvc<T> {
                        type Response = super::ListAccountsResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::ListAccountsRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as AccountService>::list_accounts(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = ListAccountsSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.AccountService/UpdateAccount" => {
                    #[allow(non_camel_case_types)]
                    struct UpdateAccountSvc<T: AccountService>(pub Arc<T>);
                    impl<
                        T: AccountService,
                    > tonic::server::UnaryService<super::UpdateAccountRequest>
                    for UpdateAccountSvc<T> {
                        type Response = super::UpdateAccountResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::UpdateAccountRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as AccountService>::update_account(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = UpdateAccountSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.AccountService/DisableAccount" => {
                    #[allow(non_camel_case_types)]
                    struct DisableAccountSvc<T: AccountService>(pub Arc<T>);
                    impl<
                        T: AccountService,
                    > tonic::server::UnaryService<super::DisableAccountRequest>
                    for DisableAccountSvc<T> {
                        type Response = super::DisableAccountResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::DisableAccountRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as AccountService>::disable_account(&inner, request)
                                    .await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = DisableAccountSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.AccountService/EnableAccount" => {
                    #[allow(non_camel_case_types)]
                    struct EnableAccountSvc<T: AccountService>(pub Arc<T>);
                    impl<
                        T: AccountService,
                    > tonic::server::UnaryService<super::EnableAccountRequest>
                    for EnableAccountSvc<T> {
                        type Response = super::EnableAccountResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::EnableAccountRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as AccountService>::enable_account(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = EnableAccountSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                _ => {
                    Box::pin(async move {
                        let mut response = http::Response::new(
                            tonic::body::Body::default(),
                        );
                        let headers = response.headers_mut();
                        headers
                            .insert(
                                tonic::Status::GRPC_STATUS,
                                (tonic::Code::Unimplemented as i32).into(),
                            );
                        headers
                            .insert(
                                http::header::CONTENT_TYPE,
                                tonic::metadata::GRPC_CONTENT_TYPE,
                            );
                        Ok(response)
                    })
                }
            }
        }
    }
    impl<T> Clone for AccountServiceServer<T> {
        fn clone(&self) -> Self {
            let inner = self.inner.clone();
            Self {
                inner,
                accept_compression_encodings: self.accept_compression_encodings,
                send_compression_encodings: self.send_compression_encodings,
                max_decoding_message_size: self.max_decoding_message_size,
                max_encoding_message_size: self.max_encoding_message_size,
            }
        }
    }
    /// Generated gRPC service name
    pub const SERVICE_NAME: &str = "keyfence.v1.AccountService";
    impl<T> tonic::server::NamedService for AccountServiceServer<T> {
        const NAME: &'static str = SERVICE_NAME;
    }
}
/// An action, or an attempt that was denied.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct AuditEvent {
    /// The id, made by Keyfence, for example "evt_01jd2k7v9x4m8r5t6w3y1z0abc".
    #[prost(string, tag = "1")]
    pub event_id: ::prost::alloc::string::String,
    /// When. Of attempts that were put together: of the last one.
    #[prost(message, optional, tag = "2")]
    pub time: ::core::option::Option<::prost_types::Timestamp>,
    /// What, for example "key.create", "keyspace.apply", "check.denied" or "call.denied".
    #[prost(string, tag = "3")]
    pub action: ::prost::alloc::string::String,
    /// The keyspace. Empty: unknown, as with a text that is like no keyspace's keys.
    #[prost(string, tag = "4")]
    pub keyspace: ::prost::alloc::string::String,
    /// The account. Empty: none, or unknown.
    #[prost(string, tag = "5")]
    pub account_id: ::prost::alloc::string::String,
    /// The id of what it was done to: a key's, an account's, a keyspace's name. Of an attempt
    /// with an unknown key: its display prefix. Of "call.denied": the caller's own credential.
    /// Empty: unknown.
    #[prost(string, tag = "6")]
    pub subject: ::prost::alloc::string::String,
    /// The id of the credential that asked for it, a key's or a session's. Empty: the server
    /// did it by itself, or it is an attempt with a credential that did not pass.
    #[prost(string, tag = "7")]
    pub actor_id: ::prost::alloc::string::String,
    /// The id of the request, as in the log. Of attempts: of the first one, if it had any.
    #[prost(string, tag = "8")]
    pub request_id: ::prost::alloc::string::String,
    /// What a reader would ask next. Never a secret. Of attempts: `reason`, `count`, the
    /// `address` that they came from, and the `first_time`, if there were several; of
    /// "call.denied" the RPC as `method`, too.
    #[prost(message, optional, tag = "9")]
    pub details: ::core::option::Option<::prost_types::Struct>,
    /// The place in the chain: 1 for the first event, and so on without gaps. Zero for a caller
    /// whose credential is not bound to `*`: it would tell what goes on in other keyspaces.
    #[prost(int64, tag = "10")]
    pub sequence: i64,
    /// The revision of the mutation. Zero: it was none, or as with `sequence`.
    #[prost(int64, tag = "11")]
    pub revision: i64,
    /// SHA-256 of the event and of the hash of the one before. See the documentation of the
    /// audit log. Empty where `sequence` is zero.
    #[prost(bytes = "vec", tag = "12")]
    pub hash: ::prost::alloc::vec::Vec<u8>,
}
/// The request of `ListAuditEvents`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ListAuditEventsRequest {
    /// Only events of this keyspace. Empty: of every one that the caller reaches.
    #[prost(string, tag = "1")]
    pub keyspace: ::prost::alloc::string::String,
    /// Only events of this account.
    #[prost(string, tag = "2")]
    pub account_id: ::prost::alloc::string::String,
    /// Only events with this subject.
    #[prost(string, tag = "3")]
    pub subject: ::prost::alloc::string::String,
    /// Only what this credential did.
    #[prost(string, tag = "4")]
    pub actor_id: ::prost::alloc::string::String,
    /// Only actions that begin with this, for example "key." or "check.denied".
    #[prost(string, tag = "5")]
    pub action_prefix: ::prost::alloc::string::String,
    /// Only events from this time on.
    #[prost(message, optional, tag = "6")]
    pub start_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Only events before this time.
    #[prost(message, optional, tag = "7")]
    pub end_time: ::core::option::Option<::prost_types::Timestamp>,
    /// At most so many: 1 to 1000. Zero: 100.
    #[prost(int32, tag = "8")]
    pub page_size: i32,
    /// The `next_page_token` of the page before. The other fields must be as they were.
    #[prost(string, tag = "9")]
    pub page_token: ::prost::alloc::string::String,
    /// The newest first. By default the oldest comes first.
    #[prost(bool, tag = "10")]
    pub newest_first: bool,
    /// Only events behind this one in the chain. To follow the log, ask again with the last
    /// `event_id` that has been seen. An id that the caller may not know of is refused.
    #[prost(string, tag = "11")]
    pub after_event_id: ::prost::alloc::string::String,
}
/// The response of `ListAuditEvents`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListAuditEventsResponse {
    /// The events.
    #[prost(message, repeated, tag = "1")]
    pub events: ::prost::alloc::vec::Vec<AuditEvent>,
    /// For the next page. Empty: this was the last, for now.
    #[prost(string, tag = "2")]
    pub next_page_token: ::prost::alloc::string::String,
}
/// The request of `VerifyAuditEvents`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct VerifyAuditEventsRequest {
    /// Behind which event to begin. Zero: at the first one that the database holds.
    #[prost(int64, tag = "1")]
    pub after_sequence: i64,
    /// The hash of that event. Needed if `after_sequence` is not zero.
    #[prost(bytes = "vec", tag = "2")]
    pub after_hash: ::prost::alloc::vec::Vec<u8>,
    /// How many events to go along: 1 to 10000. Zero: 10000.
    #[prost(int32, tag = "3")]
    pub max_events: i32,
}
/// The response of `VerifyAuditEvents`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct VerifyAuditEventsResponse {
    /// The last event up to which the chain holds.
    #[prost(int64, tag = "1")]
    pub sequence: i64,
    /// Its hash. Noted elsewhere, it shows later whether anything up to it was changed.
    #[prost(bytes = "vec", tag = "2")]
    pub hash: ::prost::alloc::vec::Vec<u8>,
    /// Whether that is the end of the chain.
    #[prost(bool, tag = "3")]
    pub complete: bool,
    /// What is wrong with the event behind it. Empty: nothing.
    #[prost(string, tag = "4")]
    pub problem: ::prost::alloc::string::String,
    /// The last event that was removed from the database, after its export. Zero: none was.
    #[prost(int64, tag = "5")]
    pub removed_sequence: i64,
    /// Its hash. The archive ends with the same hash there, or was changed.
    #[prost(bytes = "vec", tag = "6")]
    pub removed_hash: ::prost::alloc::vec::Vec<u8>,
}
/// The request of `ExportAuditEvents`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ExportAuditEventsRequest {
    /// Behind which event to begin. Zero: at the first one that the database holds.
    #[prost(int64, tag = "1")]
    pub after_sequence: i64,
    /// At most so many events: 1 to 1000. Zero: 100.
    #[prost(int32, tag = "2")]
    pub page_size: i32,
}
/// The response of `ExportAuditEvents`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ExportAuditEventsResponse {
    /// The events, without gaps. Empty: there are none behind `after_sequence`, for now.
    #[prost(message, repeated, tag = "1")]
    pub events: ::prost::alloc::vec::Vec<ExportedAuditEvent>,
    /// The event before the first of them. Zero: the first one is the first of the chain.
    #[prost(int64, tag = "2")]
    pub previous_sequence: i64,
    /// The hash of the event before the first of them. 32 zero bytes before the first event.
    #[prost(bytes = "vec", tag = "3")]
    pub previous_hash: ::prost::alloc::vec::Vec<u8>,
}
/// An event as the text that its hash covers.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ExportedAuditEvent {
    /// A JSON object in ASCII, with its names in order and without blanks. The page about the
    /// audit log describes it.
    #[prost(string, tag = "1")]
    pub text: ::prost::alloc::string::String,
    /// SHA-256 of the hash of the event before, followed by the text.
    #[prost(bytes = "vec", tag = "2")]
    pub hash: ::prost::alloc::vec::Vec<u8>,
}
/// The request of `RecordAuditExport`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RecordAuditExportRequest {
    /// The event before the first one in the archive's last part. What is recorded must have no
    /// gap: this is at most the last event that was recorded or removed.
    #[prost(int64, tag = "1")]
    pub after_sequence: i64,
    /// The last event in the archive.
    #[prost(int64, tag = "2")]
    pub sequence: i64,
    /// Its hash.
    #[prost(bytes = "vec", tag = "3")]
    pub hash: ::prost::alloc::vec::Vec<u8>,
}
/// The response of `RecordAuditExport`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RecordAuditExportResponse {
    /// The last event that is recorded as exported.
    #[prost(int64, tag = "1")]
    pub sequence: i64,
}
/// Generated server implementations.
#[cfg(feature = "testing")]
pub mod audit_service_server {
    #![allow(
        unused_variables,
        dead_code,
        missing_docs,
        clippy::wildcard_imports,
        clippy::let_unit_value,
    )]
    use tonic::codegen::*;
    /// Generated trait containing gRPC methods that should be implemented for use with AuditServiceServer.
    #[async_trait]
    pub trait AuditService: std::marker::Send + std::marker::Sync + 'static {
        /// Lists audit events. Operators see those of the keyspaces that their credential is
        /// bound to, an account's own credential sees those of its account.
        ///
        /// Errors: `INVALID_FIELD`, `KEYSPACE_NOT_BOUND`, `KEY_TYPE_MAY_NOT_MANAGE`.
        async fn list_audit_events(
            &self,
            request: tonic::Request<super::ListAuditEventsRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ListAuditEventsResponse>,
            tonic::Status,
        >;
        /// Goes along a part of the chain of all events, and says how far it holds. It tells
        /// nothing of what is in them, but how many there are, so it is for operators whose
        /// credential is bound to `*`.
        ///
        /// Errors: `INVALID_FIELD`, `KEYSPACE_NOT_BOUND`.
        async fn verify_audit_events(
            &self,
            request: tonic::Request<super::VerifyAuditEventsRequest>,
        ) -> std::result::Result<
            tonic::Response<super::VerifyAuditEventsResponse>,
            tonic::Status,
        >;
        /// Returns the events of all keyspaces in the order of the chain, each as the text that its
        /// hash covers, for an archive outside of the database. It is for operators whose credential
        /// is bound to `*` and `system`.
        ///
        /// Errors: `INVALID_FIELD`, `KEYSPACE_NOT_BOUND`.
        async fn export_audit_events(
            &self,
            request: tonic::Request<super::ExportAuditEventsRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ExportAuditEventsResponse>,
            tonic::Status,
        >;
        /// Records that events are in an archive. Servers with `KEYFENCE_AUDIT_DAYS` remove recorded
        /// events when they are old enough. The record is an audit event itself. Repeating it changes
        /// nothing. It is for operators whose credential is bound to `*` and `system`.
        ///
        /// Errors: `INVALID_FIELD`, `KEYSPACE_NOT_BOUND`.
        async fn record_audit_export(
            &self,
            request: tonic::Request<super::RecordAuditExportRequest>,
        ) -> std::result::Result<
            tonic::Response<super::RecordAuditExportResponse>,
            tonic::Status,
        >;
    }
    /// Reads the audit log: every mutation, in the transaction that made it, and attempts
    /// that failed, put together by the minute. Each event holds on to the one before it by
    /// a hash, so that a log that was edited, thinned out, reordered or cut off can be told.
    #[derive(Debug)]
    pub struct AuditServiceServer<T> {
        inner: Arc<T>,
        accept_compression_encodings: EnabledCompressionEncodings,
        send_compression_encodings: EnabledCompressionEncodings,
        max_decoding_message_size: Option<usize>,
        max_encoding_message_size: Option<usize>,
    }
    impl<T> AuditServiceServer<T> {
        pub fn new(inner: T) -> Self {
            Self::from_arc(Arc::new(inner))
        }
        pub fn from_arc(inner: Arc<T>) -> Self {
            Self {
                inner,
                accept_compression_encodings: Default::default(),
                send_compression_encodings: Default::default(),
                max_decoding_message_size: None,
                max_encoding_message_size: None,
            }
        }
        pub fn with_interceptor<F>(
            inner: T,
            interceptor: F,
        ) -> InterceptedService<Self, F>
        where
            F: tonic::service::Interceptor,
        {
            InterceptedService::new(Self::new(inner), interceptor)
        }
        /// Enable decompressing requests with the given encoding.
        #[must_use]
        pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.accept_compression_encodings.enable(encoding);
            self
        }
        /// Compress responses with the given encoding, if the client supports it.
        #[must_use]
        pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.send_compression_encodings.enable(encoding);
            self
        }
        /// Limits the maximum size of a decoded message.
        ///
        /// Default: `4MB`
        #[must_use]
        pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
            self.max_decoding_message_size = Some(limit);
            self
        }
        /// Limits the maximum size of an encoded message.
        ///
        /// Default: `usize::MAX`
        #[must_use]
        pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
            self.max_encoding_message_size = Some(limit);
            self
        }
    }
    impl<T, B> tonic::codegen::Service<http::Request<B>> for AuditServiceServer<T>
    where
        T: AuditService,
        B: Body + std::marker::Send + 'static,
        B::Error: Into<StdError> + std::marker::Send + 'static,
    {
        type Response = http::Response<tonic::body::Body>;
        type Error = std::convert::Infallible;
        type Future = BoxFuture<Self::Response, Self::Error>;
        fn poll_ready(
            &mut self,
            _cx: &mut Context<'_>,
        ) -> Poll<std::result::Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, req: http::Request<B>) -> Self::Future {
            match req.uri().path() {
                "/keyfence.v1.AuditService/ListAuditEvents" => {
                    #[allow(non_camel_case_types)]
                    struct ListAuditEventsSvc<T: AuditService>(pub Arc<T>);
                    impl<
                        T: AuditService,
                    > tonic::server::UnaryService<super::ListAuditEventsRequest>
                    for ListAuditEventsSvc<T> {
                        type Response = super::ListAuditEventsResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::ListAuditEventsRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as AuditService>::list_audit_events(&inner, request)
                                    .await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = ListAuditEventsSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.AuditService/VerifyAuditEvents" => {
                    #[allow(non_camel_case_types)]
                    struct VerifyAuditEventsSvc<T: AuditService>(pub Arc<T>);
                    impl<
                        T: AuditService,
                    > tonic::server::UnaryService<super::VerifyAuditEventsRequest>
                    for VerifyAuditEventsSvc<T> {
                        type Response = super::VerifyAuditEventsResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::VerifyAuditEventsRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as AuditService>::verify_audit_events(&inner, request)
                                    .await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = VerifyAuditEventsSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.AuditService/ExportAuditEvents" => {
                    #[allow(non_camel_case_types)]
                    struct ExportAuditEventsSvc<T: AuditService>(pub Arc<T>);
                    impl<
                        T: AuditService,
                    > tonic::server::UnaryService<super::ExportAuditEventsRequest>
                    for ExportAuditEventsSvc<T> {
                        type Response = super::ExportAuditEventsResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::ExportAuditEventsRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as AuditService>::export_audit_events(&inner, request)
                                    .await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = ExportAuditEventsSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.AuditService/RecordAuditExport" => {
                    #[allow(non_camel_case_types)]
                    struct RecordAuditExportSvc<T: AuditService>(pub Arc<T>);
                    impl<
                        T: AuditService,
                    > tonic::server::UnaryService<super::RecordAuditExportRequest>
                    for RecordAuditExportSvc<T> {
                        type Response = super::RecordAuditExportResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::RecordAuditExportRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as AuditService>::record_audit_export(&inner, request)
                                    .await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = RecordAuditExportSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                _ => {
                    Box::pin(async move {
                        let mut response = http::Response::new(
                            tonic::body::Body::default(),
                        );
                        let headers = response.headers_mut();
                        headers
                            .insert(
                                tonic::Status::GRPC_STATUS,
                                (tonic::Code::Unimplemented as i32).into(),
                            );
                        headers
                            .insert(
                                http::header::CONTENT_TYPE,
                                tonic::metadata::GRPC_CONTENT_TYPE,
                            );
                        Ok(response)
                    })
                }
            }
        }
    }
    impl<T> Clone for AuditServiceServer<T> {
        fn clone(&self) -> Self {
            let inner = self.inner.clone();
            Self {
                inner,
                accept_compression_encodings: self.accept_compression_encodings,
                send_compression_encodings: self.send_compression_encodings,
                max_decoding_message_size: self.max_decoding_message_size,
                max_encoding_message_size: self.max_encoding_message_size,
            }
        }
    }
    /// Generated gRPC service name
    pub const SERVICE_NAME: &str = "keyfence.v1.AuditService";
    impl<T> tonic::server::NamedService for AuditServiceServer<T> {
        const NAME: &'static str = SERVICE_NAME;
    }
}
/// Why a key holds, or lacks, the required scopes.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ScopeExplanation {
    /// One for each required scope that the key holds, in the order asked.
    #[prost(message, repeated, tag = "1")]
    pub held: ::prost::alloc::vec::Vec<ScopePath>,
    /// The smallest set of grants that would have made up for the missing scopes.
    #[prost(string, repeated, tag = "2")]
    pub sufficient_grants: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// One for each required scope that a cap takes away, or would take away if it were granted.
    #[prost(message, repeated, tag = "3")]
    pub capped: ::prost::alloc::vec::Vec<CappedScope>,
}
/// How a grant leads to a scope.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ScopePath {
    /// The required scope.
    #[prost(string, tag = "1")]
    pub scope: ::prost::alloc::string::String,
    /// The granted scope or wildcard that it comes from.
    #[prost(string, tag = "2")]
    pub granted: ::prost::alloc::string::String,
    /// The implications from a scope that `granted` names down to `scope`, both included. Of a
    /// path of more than 32 scopes some are left out, and `…` stands for them.
    #[prost(string, repeated, tag = "3")]
    pub path: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
}
/// A scope that a cap takes away.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct CappedScope {
    /// The required scope.
    #[prost(string, tag = "1")]
    pub scope: ::prost::alloc::string::String,
    /// What takes it away: "key_type:publishable", or "parent:key_01j...".
    #[prost(string, tag = "2")]
    pub capped_by: ::prost::alloc::string::String,
}
/// The owner of a presented credential: a key, or a session, which only `WhoAmI` describes.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Principal {
    /// The key's id, for example "key_01jd2k7v9x4m8r5t6w3y1z0abc". Not a secret. Empty for
    /// a session, which has none of what is said of keys below.
    #[prost(string, tag = "1")]
    pub key_id: ::prost::alloc::string::String,
    /// The account that owns the key, as given when the key was created.
    #[prost(string, tag = "2")]
    pub account_id: ::prost::alloc::string::String,
    /// The keyspace that the key belongs to.
    #[prost(string, tag = "3")]
    pub keyspace: ::prost::alloc::string::String,
    /// One of the keyspace's key types, for example "secret".
    #[prost(string, tag = "4")]
    pub key_type: ::prost::alloc::string::String,
    /// One of the keyspace's environments, for example "live".
    #[prost(string, tag = "5")]
    pub environment: ::prost::alloc::string::String,
    /// What people call the key.
    #[prost(string, tag = "6")]
    pub display_name: ::prost::alloc::string::String,
    /// The scopes that were granted, as they were granted: wildcards included.
    #[prost(string, repeated, tag = "7")]
    pub granted_scopes: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// The registered scopes that the key holds now: the granted ones and all that they
    /// imply, within the caps of the key's type and of the keys it was delegated from.
    /// Sorted. A long list is cut off: see `effective_scopes_truncated`.
    #[prost(string, repeated, tag = "8")]
    pub effective_scopes: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// When the key stops working, or the session. Not set: never, by time.
    #[prost(message, optional, tag = "9")]
    pub expire_time: ::core::option::Option<::prost_types::Timestamp>,
    /// The start of the key, by which people recognise it. Not a secret.
    #[prost(string, tag = "10")]
    pub display_prefix: ::prost::alloc::string::String,
    /// The key that this one was delegated from. Empty: none.
    #[prost(string, tag = "11")]
    pub parent_key_id: ::prost::alloc::string::String,
    /// Free labels of the key.
    #[prost(map = "string, string", tag = "12")]
    pub labels: ::std::collections::HashMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
    /// Of an operator credential (keyspace `system`): the keyspaces it may act on.
    /// "\*" stands for every keyspace but `system`.
    #[prost(string, repeated, tag = "13")]
    pub bound_keyspaces: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// The session's id, for example "ses_01jd2k7v9x4m8r5t6w3y1z0abc". Not a secret. Empty
    /// for a key.
    #[prost(string, tag = "14")]
    pub session_id: ::prost::alloc::string::String,
    /// Whether `effective_scopes` leaves out the last of the scopes, because the list would take
    /// more than 16 KiB. Checks go by all of them.
    #[prost(bool, tag = "15")]
    pub effective_scopes_truncated: bool,
}
/// So many requests in so long a time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RateLimit {
    /// How many requests: 1 to 1000000000. A check counts for its `cost`.
    #[prost(int64, tag = "1")]
    pub requests: i64,
    /// In which time: whole seconds, from 1 second to 31 days.
    #[prost(message, optional, tag = "2")]
    pub window: ::core::option::Option<::prost_types::Duration>,
}
/// Where a key's rate limit stands after a check. Of several limits that apply, such as
/// the key's and its account's, it is the one that has stopped the check, or else the
/// one that leaves the least.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RateLimitStatus {
    /// How many requests the window allows.
    #[prost(int64, tag = "1")]
    pub limit: i64,
    /// How many of them are left now.
    #[prost(int64, tag = "2")]
    pub remaining: i64,
    /// When the limit is whole again, if nothing more is asked until then. Rounded up to
    /// whole seconds.
    #[prost(message, optional, tag = "3")]
    pub reset_time: ::core::option::Option<::prost_types::Timestamp>,
    /// With `REASON_RATE_LIMITED`: how long until the same check can pass, if nothing else
    /// is asked meanwhile. Rounded up to whole seconds. Not set if it never can, because
    /// its cost is above the limit.
    #[prost(message, optional, tag = "4")]
    pub retry_after: ::core::option::Option<::prost_types::Duration>,
    /// The length of the window.
    #[prost(message, optional, tag = "5")]
    pub window: ::core::option::Option<::prost_types::Duration>,
    /// Whose limit it is.
    #[prost(enumeration = "RateLimitSubject", tag = "6")]
    pub subject: i32,
    /// What was counted.
    #[prost(enumeration = "RateLimitCount", tag = "7")]
    pub count: i32,
}
/// Whose uses count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum RateLimitSubject {
    /// Never sent.
    Unspecified = 0,
    /// One key's, and those of all keys that were delegated from it.
    Key = 1,
    /// Those of all keys of an account.
    Account = 2,
}
impl RateLimitSubject {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "RATE_LIMIT_SUBJECT_UNSPECIFIED",
            Self::Key => "RATE_LIMIT_SUBJECT_KEY",
            Self::Account => "RATE_LIMIT_SUBJECT_ACCOUNT",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "RATE_LIMIT_SUBJECT_UNSPECIFIED" => Some(Self::Unspecified),
            "RATE_LIMIT_SUBJECT_KEY" => Some(Self::Key),
            "RATE_LIMIT_SUBJECT_ACCOUNT" => Some(Self::Account),
            _ => None,
        }
    }
}
/// What a rate limit's numbers rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum RateLimitCount {
    /// Never sent.
    Unspecified = 0,
    /// On all checks, wherever they were made.
    Whole = 1,
    /// On the checks that one server process has made, of several that there are or may be:
    /// they share no counter, or it could not be reached and the setting for that is to count
    /// alone.
    Local = 2,
    /// On nothing: the shared counter could not be reached, and the setting for that is to
    /// let checks pass.
    None = 3,
}
impl RateLimitCount {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "RATE_LIMIT_COUNT_UNSPECIFIED",
            Self::Whole => "RATE_LIMIT_COUNT_WHOLE",
            Self::Local => "RATE_LIMIT_COUNT_LOCAL",
            Self::None => "RATE_LIMIT_COUNT_NONE",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "RATE_LIMIT_COUNT_UNSPECIFIED" => Some(Self::Unspecified),
            "RATE_LIMIT_COUNT_WHOLE" => Some(Self::Whole),
            "RATE_LIMIT_COUNT_LOCAL" => Some(Self::Local),
            "RATE_LIMIT_COUNT_NONE" => Some(Self::None),
            _ => None,
        }
    }
}
/// The one reason behind a verdict. A reason is an answer, not an RPC error: it
/// comes with gRPC status OK. The order of the values is the order of precedence:
/// where several would apply, the earliest listed one after `REASON_OK` is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum Reason {
    /// Never sent.
    Unspecified = 0,
    /// The key may do what was asked.
    Ok = 1,
    /// No key was presented: `api_key` is empty.
    CredentialMissing = 2,
    /// What was presented cannot be a key of any keyspace that the caller may ask
    /// about: a wrong prefix, length, alphabet or checksum. The store was not asked.
    CredentialMalformed = 3,
    /// The text has the form of a key, but there is no such key.
    KeyUnknown = 4,
    /// The key exists, in another keyspace than the one asked for.
    KeyspaceMismatch = 5,
    /// The key, or a key that it was delegated from, was revoked. Final.
    KeyRevoked = 6,
    /// The key, or a key that it was delegated from, is past its expiry.
    KeyExpired = 7,
    /// The key, or a key that it was delegated from, is disabled. It may come back.
    KeyDisabled = 8,
    /// The account that owns the key is disabled.
    AccountDisabled = 9,
    /// The key has an address allow-list and `client_address` is not on it, or was
    /// not given.
    AddressNotAllowed = 10,
    /// The key is good, but lacks at least one of the required scopes.
    ScopeMissing = 11,
    /// The key is good, but has used up what its rate limit allows for now.
    RateLimited = 12,
}
impl Reason {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "REASON_UNSPECIFIED",
            Self::Ok => "REASON_OK",
            Self::CredentialMissing => "REASON_CREDENTIAL_MISSING",
            Self::CredentialMalformed => "REASON_CREDENTIAL_MALFORMED",
            Self::KeyUnknown => "REASON_KEY_UNKNOWN",
            Self::KeyspaceMismatch => "REASON_KEYSPACE_MISMATCH",
            Self::KeyRevoked => "REASON_KEY_REVOKED",
            Self::KeyExpired => "REASON_KEY_EXPIRED",
            Self::KeyDisabled => "REASON_KEY_DISABLED",
            Self::AccountDisabled => "REASON_ACCOUNT_DISABLED",
            Self::AddressNotAllowed => "REASON_ADDRESS_NOT_ALLOWED",
            Self::ScopeMissing => "REASON_SCOPE_MISSING",
            Self::RateLimited => "REASON_RATE_LIMITED",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "REASON_UNSPECIFIED" => Some(Self::Unspecified),
            "REASON_OK" => Some(Self::Ok),
            "REASON_CREDENTIAL_MISSING" => Some(Self::CredentialMissing),
            "REASON_CREDENTIAL_MALFORMED" => Some(Self::CredentialMalformed),
            "REASON_KEY_UNKNOWN" => Some(Self::KeyUnknown),
            "REASON_KEYSPACE_MISMATCH" => Some(Self::KeyspaceMismatch),
            "REASON_KEY_REVOKED" => Some(Self::KeyRevoked),
            "REASON_KEY_EXPIRED" => Some(Self::KeyExpired),
            "REASON_KEY_DISABLED" => Some(Self::KeyDisabled),
            "REASON_ACCOUNT_DISABLED" => Some(Self::AccountDisabled),
            "REASON_ADDRESS_NOT_ALLOWED" => Some(Self::AddressNotAllowed),
            "REASON_SCOPE_MISSING" => Some(Self::ScopeMissing),
            "REASON_RATE_LIMITED" => Some(Self::RateLimited),
            _ => None,
        }
    }
}
/// The request of `Authenticate`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
#[prost(skip_debug)]
pub struct AuthenticateRequest {
    /// The key that a caller presented, in plaintext and without "Bearer".
    /// At most 512 bytes; what is longer is malformed.
    #[prost(string, tag = "1")]
    pub api_key: ::prost::alloc::string::String,
    /// The keyspace that the key must belong to. Empty: any of those that the caller's
    /// credential is bound to.
    #[prost(string, tag = "2")]
    pub keyspace: ::prost::alloc::string::String,
    /// The address that the key was presented from, IPv4 or IPv6 without a port.
    /// Needed for keys that have an allow-list.
    #[prost(string, tag = "3")]
    pub client_address: ::prost::alloc::string::String,
    /// Answer from no older a state than this revision, for example the one that a
    /// `RevokeKey` answered with. Zero: the server's current one.
    #[prost(int64, tag = "4")]
    pub at_least_revision: i64,
    /// What the check counts for against the rate limits of the key and its account: 0 to
    /// 1000000. Not set: 1. With 0 nothing is counted and no limit stops the check. Only
    /// a check that passes counts, and it counts once.
    #[prost(int32, optional, tag = "5")]
    pub cost: ::core::option::Option<i32>,
}
/// The response of `Authenticate`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct AuthenticateResponse {
    /// Whether the key is good.
    #[prost(bool, tag = "1")]
    pub authenticated: bool,
    /// Why. `REASON_OK` exactly if `authenticated`.
    #[prost(enumeration = "Reason", tag = "2")]
    pub reason: i32,
    /// Whose key it is. Set also for a known key that is revoked, expired, disabled or
    /// used from an address that is not allowed, so that the service can log whose it was.
    #[prost(message, optional, tag = "3")]
    pub principal: ::core::option::Option<Principal>,
    /// The revision that the answer reflects at least.
    #[prost(int64, tag = "4")]
    pub revision: i64,
    /// Where the key's rate limit stands. Set if it has one and is good, or is stopped by it.
    #[prost(message, optional, tag = "5")]
    pub rate_limit: ::core::option::Option<RateLimitStatus>,
    /// Whether the answer is from a memory that may be out of date, because an operator has
    /// asked for such answers (`--stale-if-error`): the key may have been revoked since.
    #[prost(bool, tag = "6")]
    pub stale: bool,
}
/// The request of `CheckScope`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
#[prost(skip_debug)]
pub struct CheckScopeRequest {
    /// As in `AuthenticateRequest`.
    #[prost(string, tag = "1")]
    pub api_key: ::prost::alloc::string::String,
    /// The scopes that are needed, all of them: 1 to 64 registered names, no wildcards.
    #[prost(string, repeated, tag = "2")]
    pub required_scopes: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// As in `AuthenticateRequest`.
    #[prost(string, tag = "3")]
    pub keyspace: ::prost::alloc::string::String,
    /// As in `AuthenticateRequest`.
    #[prost(string, tag = "4")]
    pub client_address: ::prost::alloc::string::String,
    /// As in `AuthenticateRequest`.
    #[prost(int64, tag = "5")]
    pub at_least_revision: i64,
    /// Whether to say which grants and implications led to the answer.
    #[prost(bool, tag = "6")]
    pub explain: bool,
    /// As in `AuthenticateRequest`.
    #[prost(int32, optional, tag = "7")]
    pub cost: ::core::option::Option<i32>,
}
/// The response of `CheckScope`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct CheckScopeResponse {
    /// Whether the key is good and holds every required scope.
    #[prost(bool, tag = "1")]
    pub allowed: bool,
    /// Why. `REASON_OK` exactly if `allowed`.
    #[prost(enumeration = "Reason", tag = "2")]
    pub reason: i32,
    /// With `REASON_SCOPE_MISSING`: those of `required_scopes` that the key lacks, in the
    /// order asked.
    #[prost(string, repeated, tag = "3")]
    pub missing_scopes: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// As in `AuthenticateResponse`.
    #[prost(message, optional, tag = "4")]
    pub principal: ::core::option::Option<Principal>,
    /// As in `AuthenticateResponse`.
    #[prost(int64, tag = "5")]
    pub revision: i64,
    /// Why, at length. Set if `explain` was, and the key is known.
    #[prost(message, optional, tag = "6")]
    pub explanation: ::core::option::Option<ScopeExplanation>,
    /// As in `AuthenticateResponse`. Set with `REASON_SCOPE_MISSING`, too, as it stands:
    /// such a check is not counted.
    #[prost(message, optional, tag = "7")]
    pub rate_limit: ::core::option::Option<RateLimitStatus>,
    /// As in `AuthenticateResponse`.
    #[prost(bool, tag = "8")]
    pub stale: bool,
}
/// The request of `BatchCheckScope`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct BatchCheckScopeRequest {
    /// The checks: 1 to 256. Each stands by itself.
    #[prost(message, repeated, tag = "1")]
    pub checks: ::prost::alloc::vec::Vec<CheckScopeRequest>,
}
/// The response of `BatchCheckScope`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct BatchCheckScopeResponse {
    /// One result for each check, in the order of the request.
    #[prost(message, repeated, tag = "1")]
    pub results: ::prost::alloc::vec::Vec<BatchCheckScopeResult>,
}
/// The answer to one check of a batch.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct BatchCheckScopeResult {
    /// What `CheckScope` would have said.
    #[prost(oneof = "batch_check_scope_result::Result", tags = "1, 2")]
    pub result: ::core::option::Option<batch_check_scope_result::Result>,
}
/// Nested message and enum types in `BatchCheckScopeResult`.
pub mod batch_check_scope_result {
    /// What `CheckScope` would have said.
    #[derive(Clone, PartialEq, ::prost::Oneof)]
    pub enum Result {
        /// The answer.
        #[prost(message, tag = "1")]
        Response(super::CheckScopeResponse),
        /// The fault in this check.
        #[prost(message, tag = "2")]
        Error(super::CheckError),
    }
}
/// The error that a check of a batch would have failed with, on its own.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct CheckError {
    /// The gRPC status code, for example 3 for `INVALID_ARGUMENT`.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// The reason's name without `ERROR_REASON_`, as in `google.rpc.ErrorInfo`.
    #[prost(string, tag = "2")]
    pub reason: ::prost::alloc::string::String,
    /// What was wrong and what to do, for a developer to read.
    #[prost(string, tag = "3")]
    pub message: ::prost::alloc::string::String,
    /// As in `google.rpc.ErrorInfo`.
    #[prost(map = "string, string", tag = "4")]
    pub metadata: ::std::collections::HashMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
}
/// The request of `WhoAmI`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct WhoAmIRequest {}
/// The response of `WhoAmI`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct WhoAmIResponse {
    /// The bearer of the call's credential.
    #[prost(message, optional, tag = "1")]
    pub principal: ::core::option::Option<Principal>,
    /// The revision that the answer reflects at least.
    #[prost(int64, tag = "2")]
    pub revision: i64,
}
/// Generated server implementations.
#[cfg(feature = "testing")]
pub mod authorization_service_server {
    #![allow(
        unused_variables,
        dead_code,
        missing_docs,
        clippy::wildcard_imports,
        clippy::let_unit_value,
    )]
    use tonic::codegen::*;
    /// Generated trait containing gRPC methods that should be implemented for use with AuthorizationServiceServer.
    #[async_trait]
    pub trait AuthorizationService: std::marker::Send + std::marker::Sync + 'static {
        /// Says whose key it is.
        ///
        /// Errors: `INVALID_FIELD`, `KEYSPACE_NOT_FOUND`, `KEYSPACE_NOT_BOUND`, `STORE_UNAVAILABLE`,
        /// `REVISION_NOT_REACHED`, `RATE_LIMITS_UNAVAILABLE`.
        async fn authenticate(
            &self,
            request: tonic::Request<super::AuthenticateRequest>,
        ) -> std::result::Result<
            tonic::Response<super::AuthenticateResponse>,
            tonic::Status,
        >;
        /// Says whether the key may do what needs all of `required_scopes`.
        ///
        /// Errors: those of `Authenticate`, and `UNKNOWN_SCOPE`.
        async fn check_scope(
            &self,
            request: tonic::Request<super::CheckScopeRequest>,
        ) -> std::result::Result<
            tonic::Response<super::CheckScopeResponse>,
            tonic::Status,
        >;
        /// Answers several checks in one call, each as `CheckScope` would, in order.
        ///
        /// Errors: those of `CheckScope`, each for its own check and not for the batch;
        /// `INVALID_FIELD` when there are too many.
        async fn batch_check_scope(
            &self,
            request: tonic::Request<super::BatchCheckScopeRequest>,
        ) -> std::result::Result<
            tonic::Response<super::BatchCheckScopeResponse>,
            tonic::Status,
        >;
        /// Tells the bearer of any credential, operator's or account's, about itself.
        ///
        /// Errors: `CREDENTIAL_REQUIRED`, `CREDENTIAL_REJECTED`.
        async fn who_am_i(
            &self,
            request: tonic::Request<super::WhoAmIRequest>,
        ) -> std::result::Result<tonic::Response<super::WhoAmIResponse>, tonic::Status>;
    }
    /// Answers checks, from memory. A key that does not pass is an answer and comes with
    /// status OK; an error status means that the call itself was at fault, or Keyfence was.
    #[derive(Debug)]
    pub struct AuthorizationServiceServer<T> {
        inner: Arc<T>,
        accept_compression_encodings: EnabledCompressionEncodings,
        send_compression_encodings: EnabledCompressionEncodings,
        max_decoding_message_size: Option<usize>,
        max_encoding_message_size: Option<usize>,
    }
    impl<T> AuthorizationServiceServer<T> {
        pub fn new(inner: T) -> Self {
            Self::from_arc(Arc::new(inner))
        }
        pub fn from_arc(inner: Arc<T>) -> Self {
            Self {
                inner,
                accept_compression_encodings: Default::default(),
                send_compression_encodings: Default::default(),
                max_decoding_message_size: None,
                max_encoding_message_size: None,
            }
        }
        pub fn with_interceptor<F>(
            inner: T,
            interceptor: F,
        ) -> InterceptedService<Self, F>
        where
            F: tonic::service::Interceptor,
        {
            InterceptedService::new(Self::new(inner), interceptor)
        }
        /// Enable decompressing requests with the given encoding.
        #[must_use]
        pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.accept_compression_encodings.enable(encoding);
            self
        }
        /// Compress responses with the given encoding, if the client supports it.
        #[must_use]
        pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.send_compression_encodings.enable(encoding);
            self
        }
        /// Limits the maximum size of a decoded message.
        ///
        /// Default: `4MB`
        #[must_use]
        pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
            self.max_decoding_message_size = Some(limit);
            self
        }
        /// Limits the maximum size of an encoded message.
        ///
        /// Default: `usize::MAX`
        #[must_use]
        pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
            self.max_encoding_message_size = Some(limit);
            self
        }
    }
    impl<T, B> tonic::codegen::Service<http::Request<B>>
    for AuthorizationServiceServer<T>
    where
        T: AuthorizationService,
        B: Body + std::marker::Send + 'static,
        B::Error: Into<StdError> + std::marker::Send + 'static,
    {
        type Response = http::Response<tonic::body::Body>;
        type Error = std::convert::Infallible;
        type Future = BoxFuture<Self::Response, Self::Error>;
        fn poll_ready(
            &mut self,
            _cx: &mut Context<'_>,
        ) -> Poll<std::result::Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, req: http::Request<B>) -> Self::Future {
            match req.uri().path() {
                "/keyfence.v1.AuthorizationService/Authenticate" => {
                    #[allow(non_camel_case_types)]
                    struct AuthenticateSvc<T: AuthorizationService>(pub Arc<T>);
                    impl<
                        T: AuthorizationService,
                    > tonic::server::UnaryService<super::AuthenticateRequest>
                    for AuthenticateSvc<T> {
                        type Response = super::AuthenticateResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::AuthenticateRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as AuthorizationService>::authenticate(&inner, request)
                                    .await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = AuthenticateSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.AuthorizationService/CheckScope" => {
                    #[allow(non_camel_case_types)]
                    struct CheckScopeSvc<T: AuthorizationService>(pub Arc<T>);
                    impl<
                        T: AuthorizationService,
                    > tonic::server::UnaryService<super::CheckScopeRequest>
                    for CheckScopeSvc<T> {
                        type Response = super::CheckScopeResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::CheckScopeRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as AuthorizationService>::check_scope(&inner, request)
                                    .await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = CheckScopeSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.AuthorizationService/BatchCheckScope" => {
                    #[allow(non_camel_case_types)]
                    struct BatchCheckScopeSvc<T: AuthorizationService>(pub Arc<T>);
                    impl<
                        T: AuthorizationService,
                    > tonic::server::UnaryService<super::BatchCheckScopeRequest>
                    for BatchCheckScopeSvc<T> {
                        type Response = super::BatchCheckScopeResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::BatchCheckScopeRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as AuthorizationService>::batch_check_scope(
                                        &inner,
                                        request,
                                    )
                                    .await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = BatchCheckScopeSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.AuthorizationService/WhoAmI" => {
                    #[allow(non_camel_case_types)]
                    struct WhoAmISvc<T: AuthorizationService>(pub Arc<T>);
                    impl<
                        T: AuthorizationService,
                    > tonic::server::UnaryService<super::WhoAmIRequest>
                    for WhoAmISvc<T> {
                        type Response = super::WhoAmIResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::WhoAmIRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as AuthorizationService>::who_am_i(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = WhoAmISvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                _ => {
                    Box::pin(async move {
                        let mut response = http::Response::new(
                            tonic::body::Body::default(),
                        );
                        let headers = response.headers_mut();
                        headers
                            .insert(
                                tonic::Status::GRPC_STATUS,
                                (tonic::Code::Unimplemented as i32).into(),
                            );
                        headers
                            .insert(
                                http::header::CONTENT_TYPE,
                                tonic::metadata::GRPC_CONTENT_TYPE,
                            );
                        Ok(response)
                    })
                }
            }
        }
    }
    impl<T> Clone for AuthorizationServiceServer<T> {
        fn clone(&self) -> Self {
            let inner = self.inner.clone();
            Self {
                inner,
                accept_compression_encodings: self.accept_compression_encodings,
                send_compression_encodings: self.send_compression_encodings,
                max_decoding_message_size: self.max_decoding_message_size,
                max_encoding_message_size: self.max_encoding_message_size,
            }
        }
    }
    /// Generated gRPC service name
    pub const SERVICE_NAME: &str = "keyfence.v1.AuthorizationService";
    impl<T> tonic::server::NamedService for AuthorizationServiceServer<T> {
        const NAME: &'static str = SERVICE_NAME;
    }
}
/// The reasons of error statuses. New values may be added; clients treat one that
/// they do not know like the status code that it came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum ErrorReason {
    /// Never sent.
    Unspecified = 0,
    /// UNAUTHENTICATED. The call carried no `authorization: Bearer ...` metadata.
    ///
    /// Example: {"reason": "CREDENTIAL_REQUIRED", "domain": "keyfence"}
    CredentialRequired = 1,
    /// UNAUTHENTICATED. The caller's own credential is malformed, unknown, revoked,
    /// expired or disabled. Which of them is in the server's log and not in the answer.
    ///
    /// Example: {"reason": "CREDENTIAL_REJECTED", "domain": "keyfence"}
    CredentialRejected = 2,
    /// PERMISSION_DENIED. The caller's credential lacks the scope that the RPC requires.
    ///
    /// Example: {"reason": "SCOPE_REQUIRED", "domain": "keyfence",
    /// "metadata": {"required_scope": "keys:write", "method": "/keyfence.v1.KeyService/CreateKey"}}
    ScopeRequired = 3,
    /// PERMISSION_DENIED. The caller's credential is not bound to the keyspace that the
    /// call is about.
    ///
    /// Example: {"reason": "KEYSPACE_NOT_BOUND", "domain": "keyfence", "metadata": {"keyspace": "acme"}}
    KeyspaceNotBound = 4,
    /// PERMISSION_DENIED. The key to be made or changed would have a scope, a lifetime,
    /// an address or a keyspace that its maker does not have, or would leave its maker's
    /// line of delegation. `exceeds` is "scopes", "expire_time", "allowed_addresses",
    /// "bound_keyspaces" or "parent_key_id".
    ///
    /// Example: {"reason": "EXCEEDS_MAKER", "domain": "keyfence", "metadata": {"exceeds": "scopes"}}
    ExceedsMaker = 5,
    /// PERMISSION_DENIED. The caller's kind of key may not manage keys.
    ///
    /// Example: {"reason": "KEY_TYPE_MAY_NOT_MANAGE", "domain": "keyfence", "metadata": {"key_type": "publishable"}}
    KeyTypeMayNotManage = 6,
    /// INVALID_ARGUMENT. One or more fields are wrong; `google.rpc.BadRequest` names each.
    ///
    /// Example: {"reason": "INVALID_FIELD", "domain": "keyfence"}
    InvalidField = 7,
    /// INVALID_ARGUMENT. A scope is not in the keyspace's catalog. In a check this is a
    /// fault of the calling service, and never a yes.
    ///
    /// Example: {"reason": "UNKNOWN_SCOPE", "domain": "keyfence",
    /// "metadata": {"scope": "vps:reed", "keyspace": "quicksrv", "nearest": "vps:read"}}
    UnknownScope = 8,
    /// INVALID_ARGUMENT. The keyspace's declaration contradicts itself, for example by a
    /// cycle of implications, or says nothing but the name of a keyspace that declares more.
    /// `google.rpc.BadRequest` names each place.
    ///
    /// Example: {"reason": "INVALID_KEYSPACE", "domain": "keyfence"}
    InvalidKeyspace = 9,
    /// NOT_FOUND. There is no such key, or the caller may not know of it.
    ///
    /// Example: {"reason": "KEY_NOT_FOUND", "domain": "keyfence", "metadata": {"key_id": "key_01j..."}}
    KeyNotFound = 10,
    /// NOT_FOUND. There is no such keyspace, or the caller may not know of it.
    ///
    /// Example: {"reason": "KEYSPACE_NOT_FOUND", "domain": "keyfence", "metadata": {"keyspace": "acme"}}
    KeyspaceNotFound = 11,
    /// ALREADY_EXISTS. The `request_id` was used before: the key was made then, and its
    /// plaintext was in that answer alone. Rotate the key to get a new plaintext.
    ///
    /// Example: {"reason": "REQUEST_ALREADY_DONE", "domain": "keyfence", "metadata": {"key_id": "key_01j..."}}
    RequestAlreadyDone = 12,
    /// FAILED_PRECONDITION. The key was revoked, which is final.
    ///
    /// Example: {"reason": "KEY_IS_REVOKED", "domain": "keyfence", "metadata": {"key_id": "key_01j..."}}
    KeyIsRevoked = 13,
    /// ABORTED. The resource has changed since the revision that the call was made for.
    /// Read it again, and decide again.
    ///
    /// Example: {"reason": "REVISION_CHANGED", "domain": "keyfence", "metadata": {"revision": "42"}}
    RevisionChanged = 14,
    /// FAILED_PRECONDITION. The declaration takes away a key type or an environment that
    /// keys still have.
    ///
    /// Example: {"reason": "STILL_IN_USE", "domain": "keyfence",
    /// "metadata": {"key_type": "publishable", "keys": "3"}}
    StillInUse = 15,
    /// RESOURCE_EXHAUSTED. A limit of the server was reached: calls under way, calls open,
    /// streams, holders, metadata. Try again later, or elsewhere.
    ///
    /// Example: {"reason": "LIMIT_REACHED", "domain": "keyfence", "metadata": {"limit": "concurrent_calls"}}
    LimitReached = 16,
    /// UNAVAILABLE. The store, or the server upstream, cannot be reached, and memory may not
    /// or cannot answer. Of a mutation it is not known whether it was made: make it again.
    ///
    /// Example: {"reason": "STORE_UNAVAILABLE", "domain": "keyfence"}
    StoreUnavailable = 17,
    /// UNAVAILABLE. This server has not yet seen the revision that `at_least_revision`
    /// asks for. Try again.
    ///
    /// Example: {"reason": "REVISION_NOT_REACHED", "domain": "keyfence", "metadata": {"revision": "41"}}
    RevisionNotReached = 18,
    /// UNAVAILABLE. The server is shutting down. Try again, on another connection.
    ///
    /// Example: {"reason": "SHUTTING_DOWN", "domain": "keyfence"}
    ShuttingDown = 19,
    /// INTERNAL. A fault of Keyfence. The server's log has the rest under the request id.
    ///
    /// Example: {"reason": "INTERNAL", "domain": "keyfence", "metadata": {"request_id": "5f1c..."}}
    Internal = 20,
    /// FAILED_PRECONDITION. The parent of a delegated key is itself at the greatest depth
    /// of delegation.
    ///
    /// Example: {"reason": "DELEGATION_TOO_DEEP", "domain": "keyfence", "metadata": {"limit": "4"}}
    DelegationTooDeep = 21,
    /// FAILED_PRECONDITION. The keyspace `system` is built in and cannot be declared.
    ///
    /// Example: {"reason": "KEYSPACE_IS_BUILT_IN", "domain": "keyfence", "metadata": {"keyspace": "system"}}
    KeyspaceIsBuiltIn = 22,
    /// UNIMPLEMENTED. There is no such RPC.
    ///
    /// Example: {"reason": "METHOD_UNKNOWN", "domain": "keyfence"}
    MethodUnknown = 23,
    /// FAILED_PRECONDITION. The change would leave no operator credential that can make every
    /// other one at any time and from anywhere: with the scope "*", bound to "*" and "system",
    /// without an expiry and without allowed addresses.
    ///
    /// Example: {"reason": "LAST_OPERATOR", "domain": "keyfence", "metadata": {"key_id": "key_01j..."}}
    LastOperator = 24,
    /// FAILED_PRECONDITION. The key was rotated before: rotate its successor instead.
    ///
    /// Example: {"reason": "KEY_IS_ROTATED", "domain": "keyfence",
    /// "metadata": {"key_id": "key_01j...", "successor_key_id": "key_01j..."}}
    KeyIsRotated = 25,
    /// PERMISSION_DENIED. The keyspace lets operators alone register accounts.
    ///
    /// Example: {"reason": "REGISTRATION_CLOSED", "domain": "keyfence", "metadata": {"keyspace": "acme"}}
    RegistrationClosed = 40,
    /// ALREADY_EXISTS. Another account of the keyspace has this e-mail address.
    ///
    /// Example: {"reason": "EMAIL_TAKEN", "domain": "keyfence"}
    EmailTaken = 41,
    /// UNAUTHENTICATED. No account has this e-mail address and this password.
    ///
    /// Example: {"reason": "LOG_IN_FAILED", "domain": "keyfence"}
    LogInFailed = 42,
    /// NOT_FOUND. There is no such registered account, or the caller may not know of it.
    ///
    /// Example: {"reason": "ACCOUNT_NOT_FOUND", "domain": "keyfence", "metadata": {"account_id": "usr_01j..."}}
    AccountNotFound = 43,
    /// FAILED_PRECONDITION. The account is disabled. Told to operators, and to a caller that
    /// gives the account's password.
    ///
    /// Example: {"reason": "ACCOUNT_IS_DISABLED", "domain": "keyfence", "metadata": {"account_id": "usr_01j..."}}
    AccountIsDisabled = 44,
    /// RESOURCE_EXHAUSTED. Too many passwords were tried, or accounts registered, from this
    /// address. Try again after so many seconds.
    ///
    /// Example: {"reason": "TOO_MANY_ATTEMPTS", "domain": "keyfence", "metadata": {"retry_after_seconds": "540"}}
    TooManyAttempts = 45,
    /// PERMISSION_DENIED. Accounts are managed by operators and by the account's own
    /// sessions; a key was presented.
    ///
    /// Example: {"reason": "SESSION_REQUIRED", "domain": "keyfence"}
    SessionRequired = 46,
    /// PERMISSION_DENIED. The current password, which the change needs, is missing or wrong.
    ///
    /// Example: {"reason": "PASSWORD_REJECTED", "domain": "keyfence"}
    PasswordRejected = 47,
    /// FAILED_PRECONDITION. The server was given no key to sign sessions with, which with
    /// PostgreSQL it must be.
    ///
    /// Example: {"reason": "SESSIONS_NOT_SET_UP", "domain": "keyfence"}
    SessionsNotSetUp = 48,
    /// UNAVAILABLE. The counter of rate limits that the servers share cannot be reached,
    /// and this server is set to answer no check of a limited key without it. Try again.
    ///
    /// Example: {"reason": "RATE_LIMITS_UNAVAILABLE", "domain": "keyfence"}
    RateLimitsUnavailable = 50,
    /// RESOURCE_EXHAUSTED. The account has used up a quota that its keyspace declares: the
    /// usable keys that it may have, or the changes that it may make. `quota` says which.
    /// `retry_after_seconds` is there if waiting helps.
    ///
    /// Example: {"reason": "QUOTA_REACHED", "domain": "keyfence", "metadata": {"quota":
    /// "changes_per_account", "limit": "120/minute", "retry_after_seconds": "17"}}
    QuotaReached = 51,
    /// FAILED_PRECONDITION. The holder speaks a version of the replication protocol that this
    /// grantor does not speak. `supported` lists the versions that it does speak.
    ///
    /// Example: {"reason": "PROTOCOL_VERSION_UNSUPPORTED", "domain": "keyfence", "metadata": {"supported": "1"}}
    ProtocolVersionUnsupported = 60,
}
impl ErrorReason {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "ERROR_REASON_UNSPECIFIED",
            Self::CredentialRequired => "ERROR_REASON_CREDENTIAL_REQUIRED",
            Self::CredentialRejected => "ERROR_REASON_CREDENTIAL_REJECTED",
            Self::ScopeRequired => "ERROR_REASON_SCOPE_REQUIRED",
            Self::KeyspaceNotBound => "ERROR_REASON_KEYSPACE_NOT_BOUND",
            Self::ExceedsMaker => "ERROR_REASON_EXCEEDS_MAKER",
            Self::KeyTypeMayNotManage => "ERROR_REASON_KEY_TYPE_MAY_NOT_MANAGE",
            Self::InvalidField => "ERROR_REASON_INVALID_FIELD",
            Self::UnknownScope => "ERROR_REASON_UNKNOWN_SCOPE",
            Self::InvalidKeyspace => "ERROR_REASON_INVALID_KEYSPACE",
            Self::KeyNotFound => "ERROR_REASON_KEY_NOT_FOUND",
            Self::KeyspaceNotFound => "ERROR_REASON_KEYSPACE_NOT_FOUND",
            Self::RequestAlreadyDone => "ERROR_REASON_REQUEST_ALREADY_DONE",
            Self::KeyIsRevoked => "ERROR_REASON_KEY_IS_REVOKED",
            Self::RevisionChanged => "ERROR_REASON_REVISION_CHANGED",
            Self::StillInUse => "ERROR_REASON_STILL_IN_USE",
            Self::LimitReached => "ERROR_REASON_LIMIT_REACHED",
            Self::StoreUnavailable => "ERROR_REASON_STORE_UNAVAILABLE",
            Self::RevisionNotReached => "ERROR_REASON_REVISION_NOT_REACHED",
            Self::ShuttingDown => "ERROR_REASON_SHUTTING_DOWN",
            Self::Internal => "ERROR_REASON_INTERNAL",
            Self::DelegationTooDeep => "ERROR_REASON_DELEGATION_TOO_DEEP",
            Self::KeyspaceIsBuiltIn => "ERROR_REASON_KEYSPACE_IS_BUILT_IN",
            Self::MethodUnknown => "ERROR_REASON_METHOD_UNKNOWN",
            Self::LastOperator => "ERROR_REASON_LAST_OPERATOR",
            Self::KeyIsRotated => "ERROR_REASON_KEY_IS_ROTATED",
            Self::RegistrationClosed => "ERROR_REASON_REGISTRATION_CLOSED",
            Self::EmailTaken => "ERROR_REASON_EMAIL_TAKEN",
            Self::LogInFailed => "ERROR_REASON_LOG_IN_FAILED",
            Self::AccountNotFound => "ERROR_REASON_ACCOUNT_NOT_FOUND",
            Self::AccountIsDisabled => "ERROR_REASON_ACCOUNT_IS_DISABLED",
            Self::TooManyAttempts => "ERROR_REASON_TOO_MANY_ATTEMPTS",
            Self::SessionRequired => "ERROR_REASON_SESSION_REQUIRED",
            Self::PasswordRejected => "ERROR_REASON_PASSWORD_REJECTED",
            Self::SessionsNotSetUp => "ERROR_REASON_SESSIONS_NOT_SET_UP",
            Self::RateLimitsUnavailable => "ERROR_REASON_RATE_LIMITS_UNAVAILABLE",
            Self::QuotaReached => "ERROR_REASON_QUOTA_REACHED",
            Self::ProtocolVersionUnsupported => {
                "ERROR_REASON_PROTOCOL_VERSION_UNSUPPORTED"
            }
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "ERROR_REASON_UNSPECIFIED" => Some(Self::Unspecified),
            "ERROR_REASON_CREDENTIAL_REQUIRED" => Some(Self::CredentialRequired),
            "ERROR_REASON_CREDENTIAL_REJECTED" => Some(Self::CredentialRejected),
            "ERROR_REASON_SCOPE_REQUIRED" => Some(Self::ScopeRequired),
            "ERROR_REASON_KEYSPACE_NOT_BOUND" => Some(Self::KeyspaceNotBound),
            "ERROR_REASON_EXCEEDS_MAKER" => Some(Self::ExceedsMaker),
            "ERROR_REASON_KEY_TYPE_MAY_NOT_MANAGE" => Some(Self::KeyTypeMayNotManage),
            "ERROR_REASON_INVALID_FIELD" => Some(Self::InvalidField),
            "ERROR_REASON_UNKNOWN_SCOPE" => Some(Self::UnknownScope),
            "ERROR_REASON_INVALID_KEYSPACE" => Some(Self::InvalidKeyspace),
            "ERROR_REASON_KEY_NOT_FOUND" => Some(Self::KeyNotFound),
            "ERROR_REASON_KEYSPACE_NOT_FOUND" => Some(Self::KeyspaceNotFound),
            "ERROR_REASON_REQUEST_ALREADY_DONE" => Some(Self::RequestAlreadyDone),
            "ERROR_REASON_KEY_IS_REVOKED" => Some(Self::KeyIsRevoked),
            "ERROR_REASON_REVISION_CHANGED" => Some(Self::RevisionChanged),
            "ERROR_REASON_STILL_IN_USE" => Some(Self::StillInUse),
            "ERROR_REASON_LIMIT_REACHED" => Some(Self::LimitReached),
            "ERROR_REASON_STORE_UNAVAILABLE" => Some(Self::StoreUnavailable),
            "ERROR_REASON_REVISION_NOT_REACHED" => Some(Self::RevisionNotReached),
            "ERROR_REASON_SHUTTING_DOWN" => Some(Self::ShuttingDown),
            "ERROR_REASON_INTERNAL" => Some(Self::Internal),
            "ERROR_REASON_DELEGATION_TOO_DEEP" => Some(Self::DelegationTooDeep),
            "ERROR_REASON_KEYSPACE_IS_BUILT_IN" => Some(Self::KeyspaceIsBuiltIn),
            "ERROR_REASON_METHOD_UNKNOWN" => Some(Self::MethodUnknown),
            "ERROR_REASON_LAST_OPERATOR" => Some(Self::LastOperator),
            "ERROR_REASON_KEY_IS_ROTATED" => Some(Self::KeyIsRotated),
            "ERROR_REASON_REGISTRATION_CLOSED" => Some(Self::RegistrationClosed),
            "ERROR_REASON_EMAIL_TAKEN" => Some(Self::EmailTaken),
            "ERROR_REASON_LOG_IN_FAILED" => Some(Self::LogInFailed),
            "ERROR_REASON_ACCOUNT_NOT_FOUND" => Some(Self::AccountNotFound),
            "ERROR_REASON_ACCOUNT_IS_DISABLED" => Some(Self::AccountIsDisabled),
            "ERROR_REASON_TOO_MANY_ATTEMPTS" => Some(Self::TooManyAttempts),
            "ERROR_REASON_SESSION_REQUIRED" => Some(Self::SessionRequired),
            "ERROR_REASON_PASSWORD_REJECTED" => Some(Self::PasswordRejected),
            "ERROR_REASON_SESSIONS_NOT_SET_UP" => Some(Self::SessionsNotSetUp),
            "ERROR_REASON_RATE_LIMITS_UNAVAILABLE" => Some(Self::RateLimitsUnavailable),
            "ERROR_REASON_QUOTA_REACHED" => Some(Self::QuotaReached),
            "ERROR_REASON_PROTOCOL_VERSION_UNSUPPORTED" => {
                Some(Self::ProtocolVersionUnsupported)
            }
            _ => None,
        }
    }
}
/// What callers of the product's HTTP API send and get.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct HttpAnswers {
    /// Where credentials are accepted. Not set: `Authorization: Bearer` and `X-API-Key`.
    #[prost(message, optional, tag = "1")]
    pub credentials: ::core::option::Option<HttpCredentials>,
    /// The answers, each for one cause. What they leave open is as by default.
    #[prost(message, repeated, tag = "2")]
    pub answers: ::prost::alloc::vec::Vec<HttpAnswer>,
    /// The media type of the answers' bodies: "application/json",
    /// "application/problem+json" or "text/plain". Empty: "application/json".
    #[prost(string, tag = "3")]
    pub content_type: ::prost::alloc::string::String,
    /// The body of the answers that have none of their own, with placeholders. For JSON, the
    /// text of a JSON object; placeholders stand in its strings.
    /// Empty: {"error": "{code}", "error_description": "{message}"}.
    #[prost(string, tag = "4")]
    pub body: ::prost::alloc::string::String,
    /// The headers that say where a rate limit stands. Not set: `X-RateLimit-Limit`,
    /// `X-RateLimit-Remaining` and `X-RateLimit-Reset`.
    #[prost(message, optional, tag = "5")]
    pub rate_limit_headers: ::core::option::Option<HttpRateLimitHeaders>,
}
/// Where a caller may put its credential. At least one place. What is accepted here is
/// taken off the request before it goes on.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct HttpCredentials {
    /// In `Authorization: Bearer ...`.
    #[prost(bool, tag = "1")]
    pub bearer: bool,
    /// In headers of these names, as they are. At most 4. Example: "X-API-Key".
    #[prost(string, repeated, tag = "2")]
    pub headers: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// In the cookie of this name. Empty: in none.
    #[prost(string, tag = "3")]
    pub cookie: ::prost::alloc::string::String,
}
/// The answer for one cause. An empty field is as in the answer for "unauthenticated",
/// where that is the more general cause, and otherwise as by default.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct HttpAnswer {
    /// "unauthenticated" for every credential that does not pass, whatever the reason;
    /// "scope_missing"; "rate_limited"; or, to tell callers more, one reason of those behind
    /// "unauthenticated", in lower case: "key_expired".
    #[prost(string, tag = "1")]
    pub cause: ::prost::alloc::string::String,
    /// The status code: 400 to 499. Zero: 401, 403 or 429.
    #[prost(int32, tag = "2")]
    pub status: i32,
    /// What `{code}` becomes: letters, digits and `._-`. At most 64 characters.
    #[prost(string, tag = "3")]
    pub code: ::prost::alloc::string::String,
    /// What `{message}` becomes, with placeholders. At most 500 characters.
    #[prost(string, tag = "4")]
    pub message: ::prost::alloc::string::String,
    /// The body, if it differs from the others'.
    #[prost(string, tag = "5")]
    pub body: ::prost::alloc::string::String,
    /// The header `WWW-Authenticate`, with placeholders. At most 500 characters.
    #[prost(string, tag = "6")]
    pub www_authenticate: ::prost::alloc::string::String,
}
/// The names of headers. An empty one is not sent.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct HttpRateLimitHeaders {
    /// How many requests the window allows.
    #[prost(string, tag = "1")]
    pub limit: ::prost::alloc::string::String,
    /// How many are left in it.
    #[prost(string, tag = "2")]
    pub remaining: ::prost::alloc::string::String,
    /// When the limit is whole again, as Unix time in seconds.
    #[prost(string, tag = "3")]
    pub reset: ::prost::alloc::string::String,
}
/// A key's record. It holds nothing that could be used as the key.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Key {
    /// The id, made by Keyfence, for example "key_01jd2k7v9x4m8r5t6w3y1z0abc".
    #[prost(string, tag = "1")]
    pub key_id: ::prost::alloc::string::String,
    /// The keyspace.
    #[prost(string, tag = "2")]
    pub keyspace: ::prost::alloc::string::String,
    /// The owner inside the keyspace.
    #[prost(string, tag = "3")]
    pub account_id: ::prost::alloc::string::String,
    /// What people call the key. At most 200 characters; "Default", if not given.
    #[prost(string, tag = "4")]
    pub display_name: ::prost::alloc::string::String,
    /// The granted scopes, wildcards included, as they were granted.
    #[prost(string, repeated, tag = "5")]
    pub granted_scopes: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// The registered scopes that the key holds now. Output only. Sorted. A long list is cut
    /// off: see `effective_scopes_truncated`.
    #[prost(string, repeated, tag = "6")]
    pub effective_scopes: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// What has become of the key, or of one that it was delegated from.
    #[prost(enumeration = "KeyState", tag = "7")]
    pub state: i32,
    /// When the key stops working. Not set: never, by time.
    #[prost(message, optional, tag = "8")]
    pub expire_time: ::core::option::Option<::prost_types::Timestamp>,
    /// One of the keyspace's key types.
    #[prost(string, tag = "9")]
    pub key_type: ::prost::alloc::string::String,
    /// One of the keyspace's environments.
    #[prost(string, tag = "10")]
    pub environment: ::prost::alloc::string::String,
    /// The start of the key, for people to tell it from others. Not a secret.
    #[prost(string, tag = "11")]
    pub display_prefix: ::prost::alloc::string::String,
    /// The preset that the scopes were taken from when the key was made. Empty: none.
    #[prost(string, tag = "12")]
    pub preset: ::prost::alloc::string::String,
    /// When the key was made.
    #[prost(message, optional, tag = "13")]
    pub create_time: ::core::option::Option<::prost_types::Timestamp>,
    /// When the record last changed.
    #[prost(message, optional, tag = "14")]
    pub update_time: ::core::option::Option<::prost_types::Timestamp>,
    /// When the key was revoked.
    #[prost(message, optional, tag = "15")]
    pub revoke_time: ::core::option::Option<::prost_types::Timestamp>,
    /// The revision at which the record last changed.
    #[prost(int64, tag = "16")]
    pub revision: i64,
    /// The only addresses that the key works from: IPv4 or IPv6, single or CIDR.
    /// Empty: from anywhere. At most 64.
    #[prost(string, repeated, tag = "17")]
    pub allowed_addresses: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// The key that this one was delegated from. Empty: none.
    #[prost(string, tag = "18")]
    pub parent_key_id: ::prost::alloc::string::String,
    /// The key that this one replaced. Empty: none.
    #[prost(string, tag = "19")]
    pub rotated_from_key_id: ::prost::alloc::string::String,
    /// The key that replaced this one. Empty: none.
    #[prost(string, tag = "20")]
    pub rotated_to_key_id: ::prost::alloc::string::String,
    /// The credential that made this one: an operator's key, or one of the account's own,
    /// or a session of the account ("ses\_...").
    #[prost(string, tag = "21")]
    pub created_by_key_id: ::prost::alloc::string::String,
    /// Free labels: at most 32, keys of 1 to 63 and values of at most 256 characters.
    #[prost(map = "string, string", tag = "22")]
    pub labels: ::std::collections::HashMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
    /// Of an operator credential (keyspace `system`): the keyspaces it may act on.
    /// "\*" stands for every keyspace but `system`.
    #[prost(string, repeated, tag = "23")]
    pub bound_keyspaces: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// The key's own rate limit. Not set: what its keyspace says.
    #[prost(message, optional, tag = "24")]
    pub rate_limit: ::core::option::Option<RateLimit>,
    /// When a check of the key last passed. Not set: never yet. What is known of a key's
    /// use is written behind, so it may be late by the server's flush interval. It is in the
    /// answers of `GetKey` and `ListKeys` alone. Output only.
    #[prost(message, optional, tag = "25")]
    pub last_used_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Where the key was presented from then, as far as the service said. Output only.
    #[prost(string, tag = "26")]
    pub last_used_address: ::prost::alloc::string::String,
    /// How many checks of the key have passed. Output only.
    #[prost(int64, tag = "27")]
    pub use_count: i64,
    /// Whether `effective_scopes` leaves out the last of the scopes, because the list would take
    /// more than 16 KiB. Checks go by all of them. Output only.
    #[prost(bool, tag = "28")]
    pub effective_scopes_truncated: bool,
}
/// The request of `CreateKey`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct CreateKeyRequest {
    /// The keyspace. May be empty when an account's key is the caller: its own.
    #[prost(string, tag = "1")]
    pub keyspace: ::prost::alloc::string::String,
    /// The owner: 1 to 128 characters of letters, digits and `._:@-`. May be empty when an
    /// account's key is the caller: its own.
    #[prost(string, tag = "2")]
    pub account_id: ::prost::alloc::string::String,
    /// What people call the key. Empty: the keyspace's default, or else "Default".
    #[prost(string, tag = "3")]
    pub display_name: ::prost::alloc::string::String,
    /// Scopes to grant: registered names, or wildcards like "vps:*" and "*". At most 256.
    #[prost(string, repeated, tag = "4")]
    pub scopes: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// A preset of the keyspace, whose scopes are granted too. With neither scopes nor a
    /// preset, the keyspace's default preset is taken; where it has none, the key holds
    /// no scope.
    #[prost(string, tag = "5")]
    pub preset: ::prost::alloc::string::String,
    /// One of the keyspace's key types. Empty: its default.
    #[prost(string, tag = "6")]
    pub key_type: ::prost::alloc::string::String,
    /// One of the keyspace's environments. Empty: its default.
    #[prost(string, tag = "7")]
    pub environment: ::prost::alloc::string::String,
    /// When the key is to stop working. Not set: the keyspace's default.
    #[prost(message, optional, tag = "8")]
    pub expire_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Makes a repeated call harmless: a second call of the same caller with the same
    /// `request_id` makes nothing, and fails with `REQUEST_ALREADY_DONE`.
    /// At most 64 characters. Remembered for at least 24 hours.
    #[prost(string, tag = "9")]
    pub request_id: ::prost::alloc::string::String,
    /// As in `Key`.
    #[prost(string, repeated, tag = "10")]
    pub allowed_addresses: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// As in `Key`.
    #[prost(map = "string, string", tag = "11")]
    pub labels: ::std::collections::HashMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
    /// The key to delegate from: the new key can never do more than that one, and is
    /// revoked with it. It must belong to the same account.
    #[prost(string, tag = "12")]
    pub parent_key_id: ::prost::alloc::string::String,
    /// As in `Key`. Needed in keyspace `system`, refused elsewhere. Each must be there, unless
    /// the credential has the scope `keyspaces:write`.
    #[prost(string, repeated, tag = "13")]
    pub bound_keyspaces: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// As in `Key`. A key that is made by a key can have none that allows more than its
    /// maker's, and gets its maker's where the keyspace's would.
    #[prost(message, optional, tag = "14")]
    pub rate_limit: ::core::option::Option<RateLimit>,
}
/// The response of `CreateKey`.
#[derive(Clone, PartialEq, ::prost::Message)]
#[prost(skip_debug)]
pub struct CreateKeyResponse {
    /// The record.
    #[prost(message, optional, tag = "1")]
    pub key: ::core::option::Option<Key>,
    /// The key itself, in plaintext. It cannot be had again.
    #[prost(string, tag = "2")]
    pub api_key: ::prost::alloc::string::String,
    /// The revision of the mutation.
    #[prost(int64, tag = "3")]
    pub revision: i64,
}
/// The request of `ImportKeys`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ImportKeysRequest {
    /// The keyspace of all of them. Not `system`.
    #[prost(string, tag = "1")]
    pub keyspace: ::prost::alloc::string::String,
    /// The keys: 1 to 500.
    #[prost(message, repeated, tag = "2")]
    pub keys: ::prost::alloc::vec::Vec<KeyToImport>,
    /// Says what would be imported, and imports nothing.
    #[prost(bool, tag = "3")]
    pub validate_only: bool,
}
/// A key that was made elsewhere. The fields are as in `CreateKeyRequest`, but for the secret.
#[derive(Clone, PartialEq, ::prost::Message)]
#[prost(skip_debug)]
pub struct KeyToImport {
    /// The owner.
    #[prost(string, tag = "4")]
    pub account_id: ::prost::alloc::string::String,
    /// What people call the key. Empty: the keyspace's default.
    #[prost(string, tag = "5")]
    pub display_name: ::prost::alloc::string::String,
    /// Scopes to grant.
    #[prost(string, repeated, tag = "6")]
    pub scopes: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// A preset, whose scopes are granted too.
    #[prost(string, tag = "7")]
    pub preset: ::prost::alloc::string::String,
    /// One of the keyspace's key types. Empty: its default.
    #[prost(string, tag = "8")]
    pub key_type: ::prost::alloc::string::String,
    /// One of the keyspace's environments. Empty: its default.
    #[prost(string, tag = "9")]
    pub environment: ::prost::alloc::string::String,
    /// When the key is to stop working. Not set: the keyspace's default.
    #[prost(message, optional, tag = "10")]
    pub expire_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Where it works from.
    #[prost(string, repeated, tag = "11")]
    pub allowed_addresses: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// Free labels.
    #[prost(map = "string, string", tag = "12")]
    pub labels: ::std::collections::HashMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
    /// How often it may be used.
    #[prost(message, optional, tag = "13")]
    pub rate_limit: ::core::option::Option<RateLimit>,
    /// By what the key is recognised when it is presented.
    #[prost(oneof = "key_to_import::Secret", tags = "1, 2, 3, 14, 15")]
    pub secret: ::core::option::Option<key_to_import::Secret>,
}
/// Nested message and enum types in `KeyToImport`.
pub mod key_to_import {
    /// By what the key is recognised when it is presented.
    #[derive(Clone, PartialEq, Eq, Hash, ::prost::Oneof)]
    #[prost(skip_debug)]
    pub enum Secret {
        /// The key itself, in plaintext.
        #[prost(string, tag = "1")]
        ApiKey(::prost::alloc::string::String),
        /// SHA-256 of the key: 32 bytes.
        #[prost(bytes, tag = "2")]
        Sha256(::prost::alloc::vec::Vec<u8>),
        /// SHA-512 of the key: 64 bytes.
        #[prost(bytes, tag = "3")]
        Sha512(::prost::alloc::vec::Vec<u8>),
        /// HMAC-SHA256 of the key under a secret of the other program: 32 bytes. The server knows the
        /// secret from its setting `KEYFENCE_IMPORT_SECRET_FILE`.
        #[prost(bytes, tag = "14")]
        HmacSha256(::prost::alloc::vec::Vec<u8>),
        /// A slow hash of the key, and by what the key is found.
        #[prost(message, tag = "15")]
        PasswordHash(super::PasswordHash),
    }
}
/// A hash of a key as programs keep it of passwords. A presented key is compared with the hashes
/// whose prefix it begins with, so at most 4 keys of a keyspace can be imported with the same prefix.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
#[prost(skip_debug)]
pub struct PasswordHash {
    /// How the key begins: at least 4 characters more than every key of its keyspace begins with, at
    /// most 64 altogether.
    #[prost(string, tag = "1")]
    pub prefix: ::prost::alloc::string::String,
    /// The hash, as the other program has it: Argon2 (`$argon2id$…`), bcrypt (`$2b$…`), or what
    /// Django writes for these and for PBKDF2 (`pbkdf2_sha256$…`).
    #[prost(string, tag = "2")]
    pub hash: ::prost::alloc::string::String,
}
/// The response of `ImportKeys`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ImportKeysResponse {
    /// How many keys were imported, or would be.
    #[prost(int32, tag = "1")]
    pub imported_count: i32,
    /// How many keys of the request were there already. They are as they were.
    #[prost(int32, tag = "2")]
    pub present_count: i32,
    /// The keys that were not imported, in order.
    #[prost(message, repeated, tag = "3")]
    pub refused: ::prost::alloc::vec::Vec<RefusedImport>,
    /// The revision of the mutation; of the store as it was found, if nothing was imported.
    #[prost(int64, tag = "4")]
    pub revision: i64,
}
/// A key that was not imported.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RefusedImport {
    /// Its place in the request, from 0 on.
    #[prost(int32, tag = "1")]
    pub index: i32,
    /// An error reason, for example `UNKNOWN_SCOPE`.
    #[prost(string, tag = "2")]
    pub reason: ::prost::alloc::string::String,
    /// What is wrong, and what to do about it.
    #[prost(string, tag = "3")]
    pub message: ::prost::alloc::string::String,
}
/// The request of `GetKey`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct GetKeyRequest {
    /// The key's id.
    #[prost(string, tag = "1")]
    pub key_id: ::prost::alloc::string::String,
}
/// The response of `GetKey`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct GetKeyResponse {
    /// The record.
    #[prost(message, optional, tag = "1")]
    pub key: ::core::option::Option<Key>,
}
/// The request of `ListKeys`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ListKeysRequest {
    /// The keyspace. May be empty when an account's key is the caller: its own.
    #[prost(string, tag = "1")]
    pub keyspace: ::prost::alloc::string::String,
    /// Only keys of this account. Empty: of every account.
    #[prost(string, tag = "2")]
    pub account_id: ::prost::alloc::string::String,
    /// At most so many keys: 1 to 1000. Zero: 100.
    #[prost(int32, tag = "3")]
    pub page_size: i32,
    /// The `next_page_token` of the page before. The other fields must be as they were.
    #[prost(string, tag = "4")]
    pub page_token: ::prost::alloc::string::String,
    /// Only keys in this state. Unspecified: in any.
    #[prost(enumeration = "KeyState", tag = "5")]
    pub state: i32,
    /// Only keys that were delegated from this one.
    #[prost(string, tag = "6")]
    pub parent_key_id: ::prost::alloc::string::String,
    /// Only keys of this type.
    #[prost(string, tag = "7")]
    pub key_type: ::prost::alloc::string::String,
    /// Only keys of this environment.
    #[prost(string, tag = "8")]
    pub environment: ::prost::alloc::string::String,
    /// Only keys with exactly this display prefix.
    #[prost(string, tag = "9")]
    pub display_prefix: ::prost::alloc::string::String,
    /// Only keys with all of these labels, each written as `NAME=VALUE`. At most 8.
    #[prost(string, repeated, tag = "10")]
    pub labels: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// Only keys whose effective scopes include this registered scope, by whatever grant, wildcard
    /// or preset. Not a wildcard. Unless `state` is set, revoked keys are left out, also those whose
    /// parent is revoked; disabled and expired keys, which can be made to work again, are listed.
    #[prost(string, tag = "11")]
    pub scope: ::prost::alloc::string::String,
    /// Only keys that were created before this time and not used from it on. A use counts once it
    /// is written down, see `Key.last_used_time`. Not in the future. Unless `state` is set, revoked
    /// keys are left out, as for `scope`.
    #[prost(message, optional, tag = "12")]
    pub unused_since_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Only keys that were never used. Unless `state` is set, revoked keys are left out, as for
    /// `scope`.
    #[prost(bool, tag = "13")]
    pub never_used: bool,
    /// Only keys that have not expired and will expire before this time, which is in the future.
    /// Unless `state` is set, revoked keys are left out, as for `scope`.
    #[prost(message, optional, tag = "14")]
    pub expiring_before_time: ::core::option::Option<::prost_types::Timestamp>,
}
/// The response of `ListKeys`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListKeysResponse {
    /// The records.
    #[prost(message, repeated, tag = "1")]
    pub keys: ::prost::alloc::vec::Vec<Key>,
    /// For the next page. Empty: this was the last.
    #[prost(string, tag = "2")]
    pub next_page_token: ::prost::alloc::string::String,
}
/// The request of `UpdateKey`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct UpdateKeyRequest {
    /// The record as it should become. `key_id` says which.
    #[prost(message, optional, tag = "1")]
    pub key: ::core::option::Option<Key>,
    /// What to change, of: `display_name`, `granted_scopes`, `state` (active or disabled),
    /// `expire_time`, `allowed_addresses`, `labels`, `rate_limit`. Must not be empty.
    #[prost(message, optional, tag = "2")]
    pub update_mask: ::core::option::Option<::prost_types::FieldMask>,
    /// Change it only if the record's revision is still this one. Zero: in any case.
    #[prost(int64, tag = "3")]
    pub if_revision: i64,
}
/// The response of `UpdateKey`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct UpdateKeyResponse {
    /// The record as it is now.
    #[prost(message, optional, tag = "1")]
    pub key: ::core::option::Option<Key>,
    /// The revision of the mutation.
    #[prost(int64, tag = "2")]
    pub revision: i64,
}
/// The request of `RotateKey`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RotateKeyRequest {
    /// The key to replace.
    #[prost(string, tag = "1")]
    pub key_id: ::prost::alloc::string::String,
    /// How long the old key still works beside its successor. Not set or zero: it is
    /// revoked at once. At most 90 days.
    #[prost(message, optional, tag = "2")]
    pub overlap: ::core::option::Option<::prost_types::Duration>,
    /// When the successor is to stop working. Not set: when the old key was to.
    #[prost(message, optional, tag = "3")]
    pub expire_time: ::core::option::Option<::prost_types::Timestamp>,
    /// As in `CreateKeyRequest`.
    #[prost(string, tag = "4")]
    pub request_id: ::prost::alloc::string::String,
}
/// The response of `RotateKey`.
#[derive(Clone, PartialEq, ::prost::Message)]
#[prost(skip_debug)]
pub struct RotateKeyResponse {
    /// The successor's record.
    #[prost(message, optional, tag = "1")]
    pub key: ::core::option::Option<Key>,
    /// The successor itself, in plaintext. It cannot be had again.
    #[prost(string, tag = "2")]
    pub api_key: ::prost::alloc::string::String,
    /// The old key's record as it is now.
    #[prost(message, optional, tag = "3")]
    pub previous_key: ::core::option::Option<Key>,
    /// The revision of the mutation.
    #[prost(int64, tag = "4")]
    pub revision: i64,
}
/// The request of `RevokeKey`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RevokeKeyRequest {
    /// The key to revoke.
    #[prost(string, tag = "1")]
    pub key_id: ::prost::alloc::string::String,
    /// Why, for the audit log. At most 200 characters.
    #[prost(string, tag = "2")]
    pub comment: ::prost::alloc::string::String,
}
/// The response of `RevokeKey`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RevokeKeyResponse {
    /// The record as it is now.
    #[prost(message, optional, tag = "1")]
    pub key: ::core::option::Option<Key>,
    /// The revision from which on nothing accepts the key. For a key that was revoked before,
    /// the newest one; the record says when.
    #[prost(int64, tag = "2")]
    pub revision: i64,
}
/// The request of `GetKeyUsage`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct GetKeyUsageRequest {
    /// The key.
    #[prost(string, tag = "1")]
    pub key_id: ::prost::alloc::string::String,
    /// The first day, in UTC, as "2026-01-31". Empty: 30 days before the last.
    #[prost(string, tag = "2")]
    pub first_day: ::prost::alloc::string::String,
    /// The last day. Empty: today. At most 400 days behind the first.
    #[prost(string, tag = "3")]
    pub last_day: ::prost::alloc::string::String,
}
/// The response of `GetKeyUsage`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct GetKeyUsageResponse {
    /// The days on which the key was used, in order.
    #[prost(message, repeated, tag = "1")]
    pub days: ::prost::alloc::vec::Vec<KeyUsageDay>,
}
/// How often a key was used on a day.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct KeyUsageDay {
    /// The day, in UTC, as "2026-01-31".
    #[prost(string, tag = "1")]
    pub day: ::prost::alloc::string::String,
    /// How many checks of the key passed. Late by the server's flush interval.
    #[prost(int64, tag = "2")]
    pub use_count: i64,
}
/// What becomes of a key. Expiry is not a state: it comes by time alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum KeyState {
    /// In a filter: any. Never sent.
    Unspecified = 0,
    /// The key works, until it expires.
    Active = 1,
    /// The key does not work for now.
    Disabled = 2,
    /// The key, or one that it was delegated from, was revoked. Final.
    Revoked = 3,
}
impl KeyState {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "KEY_STATE_UNSPECIFIED",
            Self::Active => "KEY_STATE_ACTIVE",
            Self::Disabled => "KEY_STATE_DISABLED",
            Self::Revoked => "KEY_STATE_REVOKED",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "KEY_STATE_UNSPECIFIED" => Some(Self::Unspecified),
            "KEY_STATE_ACTIVE" => Some(Self::Active),
            "KEY_STATE_DISABLED" => Some(Self::Disabled),
            "KEY_STATE_REVOKED" => Some(Self::Revoked),
            _ => None,
        }
    }
}
/// Generated server implementations.
#[cfg(feature = "testing")]
pub mod key_service_server {
    #![allow(
        unused_variables,
        dead_code,
        missing_docs,
        clippy::wildcard_imports,
        clippy::let_unit_value,
    )]
    use tonic::codegen::*;
    /// Generated trait containing gRPC methods that should be implemented for use with KeyServiceServer.
    #[async_trait]
    pub trait KeyService: std::marker::Send + std::marker::Sync + 'static {
        /// Makes a key. The plaintext is in this answer and nowhere else, ever.
        ///
        /// Errors: `INVALID_FIELD`, `UNKNOWN_SCOPE`, `KEYSPACE_NOT_FOUND`, `KEYSPACE_NOT_BOUND`,
        /// `EXCEEDS_MAKER`, `KEY_TYPE_MAY_NOT_MANAGE`, `REQUEST_ALREADY_DONE`, `ACCOUNT_IS_DISABLED`,
        /// `QUOTA_REACHED`; of a parent `KEY_NOT_FOUND`, `KEY_IS_REVOKED`, `DELEGATION_TOO_DEEP`.
        async fn create_key(
            &self,
            request: tonic::Request<super::CreateKeyRequest>,
        ) -> std::result::Result<
            tonic::Response<super::CreateKeyResponse>,
            tonic::Status,
        >;
        /// Imports keys that were made elsewhere, each by its plaintext or by a hash of it. All keys
        /// of a call that are not refused are imported at once, in one mutation. A key that is there
        /// already is left as it is, so a call can be repeated. For operators alone.
        ///
        /// The text of a key must have the form that its keyspace gives its keys, or gave them earlier.
        ///
        /// Errors: `INVALID_FIELD`, `KEYSPACE_NOT_FOUND`, `KEYSPACE_NOT_BOUND`, `SCOPE_REQUIRED`. What is
        /// wrong with a single key is in the answer.
        async fn import_keys(
            &self,
            request: tonic::Request<super::ImportKeysRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ImportKeysResponse>,
            tonic::Status,
        >;
        /// Reads a key's record.
        ///
        /// Errors: `KEY_NOT_FOUND`, `KEY_TYPE_MAY_NOT_MANAGE`.
        async fn get_key(
            &self,
            request: tonic::Request<super::GetKeyRequest>,
        ) -> std::result::Result<tonic::Response<super::GetKeyResponse>, tonic::Status>;
        /// Lists keys, oldest first. Pages stay stable while keys are made and changed.
        ///
        /// A key is listed if it passes every filter that is set. A page examines at most 6,000 keys, so
        /// it can have fewer keys than `page_size`, or none, and still have a `next_page_token`.
        ///
        /// Errors: `INVALID_FIELD`, `UNKNOWN_SCOPE`, `KEYSPACE_NOT_FOUND`, `KEYSPACE_NOT_BOUND`,
        /// `KEY_TYPE_MAY_NOT_MANAGE`.
        async fn list_keys(
            &self,
            request: tonic::Request<super::ListKeysRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ListKeysResponse>,
            tonic::Status,
        >;
        /// Changes a key's record: name, scopes, state, expiry, addresses or labels.
        ///
        /// Errors: `INVALID_FIELD`, `UNKNOWN_SCOPE`, `KEY_NOT_FOUND`, `KEY_IS_REVOKED`,
        /// `EXCEEDS_MAKER`, `REVISION_CHANGED`, `LAST_OPERATOR`, `KEY_TYPE_MAY_NOT_MANAGE`,
        /// `QUOTA_REACHED`.
        async fn update_key(
            &self,
            request: tonic::Request<super::UpdateKeyRequest>,
        ) -> std::result::Result<
            tonic::Response<super::UpdateKeyResponse>,
            tonic::Status,
        >;
        /// Says how often a key was used on each day.
        ///
        /// Errors: `KEY_NOT_FOUND`, `INVALID_FIELD`, `KEY_TYPE_MAY_NOT_MANAGE`.
        async fn get_key_usage(
            &self,
            request: tonic::Request<super::GetKeyUsageRequest>,
        ) -> std::result::Result<
            tonic::Response<super::GetKeyUsageResponse>,
            tonic::Status,
        >;
        /// Makes a successor with the same grants, and lets the old key live for `overlap`.
        ///
        /// Errors: `KEY_NOT_FOUND`, `KEY_IS_REVOKED`, `KEY_IS_ROTATED`, `INVALID_FIELD`,
        /// `EXCEEDS_MAKER`, `REQUEST_ALREADY_DONE`, `LAST_OPERATOR`, `KEY_TYPE_MAY_NOT_MANAGE`,
        /// `QUOTA_REACHED`.
        async fn rotate_key(
            &self,
            request: tonic::Request<super::RotateKeyRequest>,
        ) -> std::result::Result<
            tonic::Response<super::RotateKeyResponse>,
            tonic::Status,
        >;
        /// Revokes a key, and with it every key that was delegated from it. Final. Once this
        /// has returned OK, nothing accepts the key. Revoking a revoked key is OK again.
        ///
        /// Errors: `KEY_NOT_FOUND`, `INVALID_FIELD`, `LAST_OPERATOR`, `KEY_TYPE_MAY_NOT_MANAGE`,
        /// `QUOTA_REACHED`.
        async fn revoke_key(
            &self,
            request: tonic::Request<super::RevokeKeyRequest>,
        ) -> std::result::Result<
            tonic::Response<super::RevokeKeyResponse>,
            tonic::Status,
        >;
    }
    /// Manages keys. Operators act on the keyspaces that their credential is bound to;
    /// an account's own key acts on its account alone, and makes nothing that exceeds it.
    /// Every answer to a mutation comes when the mutation holds everywhere.
    #[derive(Debug)]
    pub struct KeyServiceServer<T> {
        inner: Arc<T>,
        accept_compression_encodings: EnabledCompressionEncodings,
        send_compression_encodings: EnabledCompressionEncodings,
        max_decoding_message_size: Option<usize>,
        max_encoding_message_size: Option<usize>,
    }
    impl<T> KeyServiceServer<T> {
        pub fn new(inner: T) -> Self {
            Self::from_arc(Arc::new(inner))
        }
        pub fn from_arc(inner: Arc<T>) -> Self {
            Self {
                inner,
                accept_compression_encodings: Default::default(),
                send_compression_encodings: Default::default(),
                max_decoding_message_size: None,
                max_encoding_message_size: None,
            }
        }
        pub fn with_interceptor<F>(
            inner: T,
            interceptor: F,
        ) -> InterceptedService<Self, F>
        where
            F: tonic::service::Interceptor,
        {
            InterceptedService::new(Self::new(inner), interceptor)
        }
        /// Enable decompressing requests with the given encoding.
        #[must_use]
        pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.accept_compression_encodings.enable(encoding);
            self
        }
        /// Compress responses with the given encoding, if the client supports it.
        #[must_use]
        pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.send_compression_encodings.enable(encoding);
            self
        }
        /// Limits the maximum size of a decoded message.
        ///
        /// Default: `4MB`
        #[must_use]
        pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
            self.max_decoding_message_size = Some(limit);
            self
        }
        /// Limits the maximum size of an encoded message.
        ///
        /// Default: `usize::MAX`
        #[must_use]
        pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
            self.max_encoding_message_size = Some(limit);
            self
        }
    }
    impl<T, B> tonic::codegen::Service<http::Request<B>> for KeyServiceServer<T>
    where
        T: KeyService,
        B: Body + std::marker::Send + 'static,
        B::Error: Into<StdError> + std::marker::Send + 'static,
    {
        type Response = http::Response<tonic::body::Body>;
        type Error = std::convert::Infallible;
        type Future = BoxFuture<Self::Response, Self::Error>;
        fn poll_ready(
            &mut self,
            _cx: &mut Context<'_>,
        ) -> Poll<std::result::Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, req: http::Request<B>) -> Self::Future {
            match req.uri().path() {
                "/keyfence.v1.KeyService/CreateKey" => {
                    #[allow(non_camel_case_types)]
                    struct CreateKeySvc<T: KeyService>(pub Arc<T>);
                    impl<
                        T: KeyService,
                    > tonic::server::UnaryService<super::CreateKeyRequest>
                    for CreateKeySvc<T> {
                        type Response = super::CreateKeyResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::CreateKeyRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as KeyService>::create_key(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = CreateKeySvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.KeyService/ImportKeys" => {
                    #[allow(non_camel_case_types)]
                    struct ImportKeysSvc<T: KeyService>(pub Arc<T>);
                    impl<
                        T: KeyService,
                    > tonic::server::UnaryService<super::ImportKeysRequest>
                    for ImportKeysSvc<T> {
                        type Response = super::ImportKeysResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::ImportKeysRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as KeyService>::import_keys(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = ImportKeysSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.KeyService/GetKey" => {
                    #[allow(non_camel_case_types)]
                    struct GetKeySvc<T: KeyService>(pub Arc<T>);
                    impl<T: KeyService> tonic::server::UnaryService<super::GetKeyRequest>
                    for GetKeySvc<T> {
                        type Response = super::GetKeyResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::GetKeyRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as KeyService>::get_key(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = GetKeySvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.KeyService/ListKeys" => {
                    #[allow(non_camel_case_types)]
                    struct ListKeysSvc<T: KeyService>(pub Arc<T>);
                    impl<
                        T: KeyService,
                    > tonic::server::UnaryService<super::ListKeysRequest>
                    for ListKeysSvc<T> {
                        type Response = super::ListKeysResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::ListKeysRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as KeyService>::list_keys(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = ListKeysSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.KeyService/UpdateKey" => {
                    #[allow(non_camel_case_types)]
                    struct UpdateKeySvc<T: KeyService>(pub Arc<T>);
                    impl<
                        T: KeyService,
                    > tonic::server::UnaryService<super::UpdateKeyRequest>
                    for UpdateKeySvc<T> {
                        type Response = super::UpdateKeyResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::UpdateKeyRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as KeyService>::update_key(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = UpdateKeySvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.KeyService/GetKeyUsage" => {
                    #[allow(non_camel_case_types)]
                    struct GetKeyUsageSvc<T: KeyService>(pub Arc<T>);
                    impl<
                        T: KeyService,
                    > tonic::server::UnaryService<super::GetKeyUsageRequest>
                    for GetKeyUsageSvc<T> {
                        type Response = super::GetKeyUsageResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::GetKeyUsageRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as KeyService>::get_key_usage(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = GetKeyUsageSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.KeyService/RotateKey" => {
                    #[allow(non_camel_case_types)]
                    struct RotateKeySvc<T: KeyService>(pub Arc<T>);
                    impl<
                        T: KeyService,
                    > tonic::server::UnaryService<super::RotateKeyRequest>
                    for RotateKeySvc<T> {
                        type Response = super::RotateKeyResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::RotateKeyRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as KeyService>::rotate_key(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = RotateKeySvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.KeyService/RevokeKey" => {
                    #[allow(non_camel_case_types)]
                    struct RevokeKeySvc<T: KeyService>(pub Arc<T>);
                    impl<
                        T: KeyService,
                    > tonic::server::UnaryService<super::RevokeKeyRequest>
                    for RevokeKeySvc<T> {
                        type Response = super::RevokeKeyResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::RevokeKeyRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as KeyService>::revoke_key(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = RevokeKeySvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                _ => {
                    Box::pin(async move {
                        let mut response = http::Response::new(
                            tonic::body::Body::default(),
                        );
                        let headers = response.headers_mut();
                        headers
                            .insert(
                                tonic::Status::GRPC_STATUS,
                                (tonic::Code::Unimplemented as i32).into(),
                            );
                        headers
                            .insert(
                                http::header::CONTENT_TYPE,
                                tonic::metadata::GRPC_CONTENT_TYPE,
                            );
                        Ok(response)
                    })
                }
            }
        }
    }
    impl<T> Clone for KeyServiceServer<T> {
        fn clone(&self) -> Self {
            let inner = self.inner.clone();
            Self {
                inner,
                accept_compression_encodings: self.accept_compression_encodings,
                send_compression_encodings: self.send_compression_encodings,
                max_decoding_message_size: self.max_decoding_message_size,
                max_encoding_message_size: self.max_encoding_message_size,
            }
        }
    }
    /// Generated gRPC service name
    pub const SERVICE_NAME: &str = "keyfence.v1.KeyService";
    impl<T> tonic::server::NamedService for KeyServiceServer<T> {
        const NAME: &'static str = SERVICE_NAME;
    }
}
/// The key system of one product: how its keys look, what they can be allowed to do,
/// and which kinds of them there are.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Keyspace {
    /// The name: 1 to 63 lower-case letters, digits and hyphens, starting with a letter.
    #[prost(string, tag = "1")]
    pub name: ::prost::alloc::string::String,
    /// What people call the product. At most 200 characters.
    #[prost(string, tag = "2")]
    pub display_name: ::prost::alloc::string::String,
    /// What it is for. At most 2000 characters.
    #[prost(string, tag = "3")]
    pub description: ::prost::alloc::string::String,
    /// How keys look. Not set: `kf_{environment}_{body}{checksum}`.
    #[prost(message, optional, tag = "4")]
    pub format: ::core::option::Option<KeyFormat>,
    /// The registered scopes, besides those of `resources`. At most 10000 together.
    #[prost(message, repeated, tag = "5")]
    pub scopes: ::prost::alloc::vec::Vec<Scope>,
    /// Resources with ordered levels.
    #[prost(message, repeated, tag = "6")]
    pub resources: ::prost::alloc::vec::Vec<Resource>,
    /// Named bundles of scopes.
    #[prost(message, repeated, tag = "7")]
    pub presets: ::prost::alloc::vec::Vec<Preset>,
    /// The kinds of keys. Empty: one kind, "secret", that may manage keys.
    #[prost(message, repeated, tag = "8")]
    pub key_types: ::prost::alloc::vec::Vec<KeyType>,
    /// The environments. Empty: one, "live".
    #[prost(message, repeated, tag = "9")]
    pub environments: ::prost::alloc::vec::Vec<Environment>,
    /// The defaults of a new key.
    #[prost(message, optional, tag = "10")]
    pub defaults: ::core::option::Option<KeyDefaults>,
    /// The longest that a key may live. Not set: as long as its maker says.
    #[prost(message, optional, tag = "11")]
    pub max_lifetime: ::core::option::Option<::prost_types::Duration>,
    /// The revision at which the keyspace last changed. Output only.
    #[prost(int64, tag = "12")]
    pub revision: i64,
    /// When the keyspace was first applied. Output only.
    #[prost(message, optional, tag = "13")]
    pub create_time: ::core::option::Option<::prost_types::Timestamp>,
    /// When the keyspace last changed. Output only.
    #[prost(message, optional, tag = "14")]
    pub update_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Formats that the keyspace had before. Keys made with them still work, until
    /// `ApplyKeyspaceRequest.drop_previous_formats` names them. Output only.
    #[prost(message, repeated, tag = "15")]
    pub previous_formats: ::prost::alloc::vec::Vec<KeyFormat>,
    /// What callers of the product's HTTP API send and get. Not set: as RFC 6750 has it.
    #[prost(message, optional, tag = "16")]
    pub http: ::core::option::Option<HttpAnswers>,
    /// The accounts that people can have. Not set: none can be registered.
    #[prost(message, optional, tag = "17")]
    pub accounts: ::core::option::Option<Accounts>,
    /// How often keys may be used that have no limit of their own.
    #[prost(message, optional, tag = "18")]
    pub limits: ::core::option::Option<Limits>,
}
/// How a key looks.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct KeyFormat {
    /// Literal text with placeholders: `{type}`, `{environment}`, `{body}` (exactly once)
    /// and `{checksum}` (at most once, last, right behind the body). It starts with a letter
    /// and another letter or digit, and has `_` or `-` right before `{body}`.
    /// Example: "kf\_{environment}\_{body}{checksum}".
    #[prost(string, tag = "1")]
    pub template: ::prost::alloc::string::String,
    /// The random part. Not set: 32 characters of base62, of which 6 are shown.
    #[prost(message, optional, tag = "2")]
    pub body: ::core::option::Option<KeyBody>,
    /// Other templates for some of the key types, by the type's name.
    #[prost(map = "string, string", tag = "3")]
    pub templates_by_key_type: ::std::collections::HashMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
}
/// The random part of a key. Fewer than 128 bits of entropy are refused.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct KeyBody {
    /// The characters to draw from: "base62", "hex" (lower case), "base36" (lower case),
    /// "base58", or the letters and digits themselves.
    #[prost(string, tag = "1")]
    pub alphabet: ::prost::alloc::string::String,
    /// How many characters are drawn.
    #[prost(int32, tag = "2")]
    pub length: i32,
    /// How many of them the display prefix shows: 0 to 8.
    #[prost(int32, tag = "3")]
    pub shown: i32,
}
/// A permission's name and what it brings with it.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Scope {
    /// One or more parts of lower-case letters, digits, `_`, `-` and `.`, joined by `:`.
    /// At most 128 characters. Example: "vps:create".
    #[prost(string, tag = "1")]
    pub name: ::prost::alloc::string::String,
    /// What it allows, for people. At most 500 characters.
    #[prost(string, tag = "2")]
    pub description: ::prost::alloc::string::String,
    /// Registered scopes, or wildcards, that come with it.
    #[prost(string, repeated, tag = "3")]
    pub implies: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
}
/// A resource whose levels are scopes: level "read" of "projects" is the scope
/// "projects:read". Each level implies the ones before it.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Resource {
    /// The resource, in the form of a scope's name. Example: "projects".
    #[prost(string, tag = "1")]
    pub name: ::prost::alloc::string::String,
    /// What it is, for people.
    #[prost(string, tag = "2")]
    pub display_name: ::prost::alloc::string::String,
    /// The levels, the weakest first.
    #[prost(message, repeated, tag = "3")]
    pub levels: ::prost::alloc::vec::Vec<Level>,
}
/// One level of access to a resource.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Level {
    /// The level: one part of a scope's name. Example: "read".
    #[prost(string, tag = "1")]
    pub name: ::prost::alloc::string::String,
    /// What it allows, for people.
    #[prost(string, tag = "2")]
    pub description: ::prost::alloc::string::String,
}
/// A named bundle of scopes. A key made with it gets the scopes that it names then.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Preset {
    /// The name, in the form of a part of a scope's name. Example: "read-only".
    #[prost(string, tag = "1")]
    pub name: ::prost::alloc::string::String,
    /// What people call it. Example: "Read only".
    #[prost(string, tag = "2")]
    pub display_name: ::prost::alloc::string::String,
    /// Registered scopes, or wildcards.
    #[prost(string, repeated, tag = "3")]
    pub scopes: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
}
/// A kind of key.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct KeyType {
    /// The name: lower-case letters, digits, `-` and `_`. Example: "publishable".
    #[prost(string, tag = "1")]
    pub name: ::prost::alloc::string::String,
    /// What it is for, for people.
    #[prost(string, tag = "2")]
    pub description: ::prost::alloc::string::String,
    /// What `{type}` becomes in a key. Empty: the name.
    #[prost(string, tag = "3")]
    pub marker: ::prost::alloc::string::String,
    /// The most that a key of this type can hold: scopes or wildcards. Empty: everything.
    #[prost(string, repeated, tag = "4")]
    pub scope_cap: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// Whether a key of this type may manage the keys of its account.
    #[prost(bool, tag = "5")]
    pub manages_keys: bool,
}
/// A place that keys are for, like a test system.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Environment {
    /// The name: lower-case letters, digits, `-` and `_`. Example: "live".
    #[prost(string, tag = "1")]
    pub name: ::prost::alloc::string::String,
    /// What it is for, for people.
    #[prost(string, tag = "2")]
    pub description: ::prost::alloc::string::String,
    /// What `{environment}` becomes in a key. Empty: the name.
    #[prost(string, tag = "3")]
    pub marker: ::prost::alloc::string::String,
}
/// The defaults of a new key.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct KeyDefaults {
    /// The key's name. Empty: "Default".
    #[prost(string, tag = "1")]
    pub display_name: ::prost::alloc::string::String,
    /// The key type. Empty: the first one.
    #[prost(string, tag = "2")]
    pub key_type: ::prost::alloc::string::String,
    /// The environment. Empty: the first one.
    #[prost(string, tag = "3")]
    pub environment: ::prost::alloc::string::String,
    /// The preset. Empty: none.
    #[prost(string, tag = "4")]
    pub preset: ::prost::alloc::string::String,
    /// How long a key lives. Not set: without end, or `max_lifetime`.
    #[prost(message, optional, tag = "5")]
    pub lifetime: ::core::option::Option<::prost_types::Duration>,
}
/// How often keys may be used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Limits {
    /// The limit of each key that has none of its own. Not set: no limit.
    #[prost(message, optional, tag = "1")]
    pub per_key: ::core::option::Option<RateLimit>,
    /// The limit of all keys of an account together. Not set: no limit.
    #[prost(message, optional, tag = "2")]
    pub per_account: ::core::option::Option<RateLimit>,
    /// How many usable keys an account may have whose sessions and keys make them: 1 to 100000.
    /// Zero: 1000. Operators make any number.
    #[prost(int32, tag = "3")]
    pub keys_per_account: i32,
    /// How many changes the sessions and keys of an account may make. Ten times as many if the
    /// changes only restrict, such as revocations. Not set: 120 in a minute.
    #[prost(message, optional, tag = "4")]
    pub changes_per_account: ::core::option::Option<RateLimit>,
}
/// The accounts that people can have in a keyspace, with an e-mail address and a password.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Accounts {
    /// Who may register. Unspecified: closed.
    #[prost(enumeration = "Registration", tag = "1")]
    pub registration: i32,
    /// The fewest characters of a password: 8 to 128. Zero: 12.
    #[prost(int32, tag = "2")]
    pub password_min_length: i32,
    /// How long a session lasts: a minute to 90 days. Not set: 24 hours.
    #[prost(message, optional, tag = "3")]
    pub session_lifetime: ::core::option::Option<::prost_types::Duration>,
    /// The plan of an account whose maker does not say, as in `Account`.
    #[prost(string, tag = "4")]
    pub default_plan: ::prost::alloc::string::String,
    /// The most that a session may grant to its account's keys: scopes or wildcards. Empty:
    /// everything. A key may grant what it holds itself.
    #[prost(string, repeated, tag = "5")]
    pub grantable_scopes: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// The key types that a session may make and change keys of. Empty: all.
    #[prost(string, repeated, tag = "6")]
    pub grantable_key_types: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// The environments that a session may make and change keys of. Empty: all.
    #[prost(string, repeated, tag = "7")]
    pub grantable_environments: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// Whether a key that a session makes ends with the session: it expires no later, and is
    /// revoked when the session is ended.
    #[prost(bool, tag = "8")]
    pub keys_end_with_session: bool,
}
/// Who may register accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum Registration {
    /// Closed.
    Unspecified = 0,
    /// Operators alone.
    Closed = 1,
    /// Every caller.
    Open = 2,
}
impl Registration {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "REGISTRATION_UNSPECIFIED",
            Self::Closed => "REGISTRATION_CLOSED",
            Self::Open => "REGISTRATION_OPEN",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "REGISTRATION_UNSPECIFIED" => Some(Self::Unspecified),
            "REGISTRATION_CLOSED" => Some(Self::Closed),
            "REGISTRATION_OPEN" => Some(Self::Open),
            _ => None,
        }
    }
}
/// The request of `ApplyKeyspace`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ApplyKeyspaceRequest {
    /// The declaration. Output-only fields are ignored.
    #[prost(message, optional, tag = "1")]
    pub keyspace: ::core::option::Option<Keyspace>,
    /// Only say what would change.
    #[prost(bool, tag = "2")]
    pub validate_only: bool,
    /// Apply only if the keyspace's revision is still this one. Zero: in any case.
    #[prost(int64, tag = "3")]
    pub if_revision: i64,
    /// Earlier formats that are no longer recognised: their templates as `previous_formats`
    /// has them, or `*` for all. Keys of these formats stop working. A template that is not
    /// among the earlier formats is ignored, since an answer may have been lost.
    #[prost(string, repeated, tag = "4")]
    pub drop_previous_formats: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
}
/// The response of `ApplyKeyspace`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ApplyKeyspaceResponse {
    /// The keyspace as it is now, or would be.
    #[prost(message, optional, tag = "1")]
    pub keyspace: ::core::option::Option<Keyspace>,
    /// What changed, or would.
    #[prost(message, optional, tag = "2")]
    pub diff: ::core::option::Option<KeyspaceDiff>,
    /// The revision of the mutation. With `validate_only`, or when nothing changed: the
    /// current one.
    #[prost(int64, tag = "3")]
    pub revision: i64,
}
/// What a declaration changes.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct KeyspaceDiff {
    /// Whether the keyspace is new.
    #[prost(bool, tag = "1")]
    pub created: bool,
    /// Scopes that are new. Sorted.
    #[prost(string, repeated, tag = "2")]
    pub added_scopes: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// Scopes that are gone. Sorted.
    #[prost(string, repeated, tag = "3")]
    pub removed_scopes: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// Scopes whose implications differ. Sorted.
    #[prost(string, repeated, tag = "4")]
    pub changed_scopes: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// Other parts of the declaration that differ, for example "format" or "presets". Sorted.
    #[prost(string, repeated, tag = "5")]
    pub changed_fields: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// Keys whose effective scopes differ, at most 1000 of them, and fewer where they gain or
    /// lose many scopes; revoked and expired keys do not count.
    #[prost(message, repeated, tag = "6")]
    pub affected_keys: ::prost::alloc::vec::Vec<KeyScopeChange>,
    /// How many such keys there are in all.
    #[prost(int64, tag = "7")]
    pub affected_key_count: i64,
    /// The templates of the earlier formats that are no longer recognised. Sorted.
    #[prost(string, repeated, tag = "8")]
    pub dropped_formats: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// Keys that stop working since their format is dropped, at most 1000 of them. A key whose
    /// display prefix fits both a dropped format and one that stays is among them: it may stop
    /// working. Revoked and expired keys do not count.
    #[prost(message, repeated, tag = "9")]
    pub cut_off_keys: ::prost::alloc::vec::Vec<CutOffKey>,
    /// How many such keys there are in all.
    #[prost(int64, tag = "10")]
    pub cut_off_key_count: i64,
    /// Whether lists of scopes or keys here were cut, because all of them would have been too
    /// large for an answer. The counts are of all. The change itself is whole.
    #[prost(bool, tag = "11")]
    pub truncated: bool,
}
/// A key whose format is dropped.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct CutOffKey {
    /// The key.
    #[prost(string, tag = "1")]
    pub key_id: ::prost::alloc::string::String,
    /// Its account.
    #[prost(string, tag = "2")]
    pub account_id: ::prost::alloc::string::String,
    /// What people call it.
    #[prost(string, tag = "3")]
    pub display_name: ::prost::alloc::string::String,
    /// What may be shown of the key itself.
    #[prost(string, tag = "4")]
    pub display_prefix: ::prost::alloc::string::String,
}
/// How one key's effective scopes differ.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct KeyScopeChange {
    /// The key.
    #[prost(string, tag = "1")]
    pub key_id: ::prost::alloc::string::String,
    /// Its account.
    #[prost(string, tag = "2")]
    pub account_id: ::prost::alloc::string::String,
    /// What people call it.
    #[prost(string, tag = "3")]
    pub display_name: ::prost::alloc::string::String,
    /// Effective scopes that it gains. Sorted.
    #[prost(string, repeated, tag = "4")]
    pub gained_scopes: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// Effective scopes that it loses. Sorted.
    #[prost(string, repeated, tag = "5")]
    pub lost_scopes: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
}
/// The request of `GetKeyspace`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct GetKeyspaceRequest {
    /// The keyspace's name.
    #[prost(string, tag = "1")]
    pub name: ::prost::alloc::string::String,
}
/// The response of `GetKeyspace`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct GetKeyspaceResponse {
    /// The keyspace.
    #[prost(message, optional, tag = "1")]
    pub keyspace: ::core::option::Option<Keyspace>,
}
/// The request of `ListKeyspaces`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ListKeyspacesRequest {
    /// At most so many: 1 to 1000. Zero: 100.
    #[prost(int32, tag = "1")]
    pub page_size: i32,
    /// The `next_page_token` of the page before.
    #[prost(string, tag = "2")]
    pub page_token: ::prost::alloc::string::String,
}
/// The response of `ListKeyspaces`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListKeyspacesResponse {
    /// The keyspaces.
    #[prost(message, repeated, tag = "1")]
    pub keyspaces: ::prost::alloc::vec::Vec<Keyspace>,
    /// For the next page. Empty: this was the last.
    #[prost(string, tag = "2")]
    pub next_page_token: ::prost::alloc::string::String,
}
/// The request of `ExplainScope`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ExplainScopeRequest {
    /// The keyspace.
    #[prost(string, tag = "1")]
    pub keyspace: ::prost::alloc::string::String,
    /// A registered scope of it.
    #[prost(string, tag = "2")]
    pub scope: ::prost::alloc::string::String,
}
/// The response of `ExplainScope`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ExplainScopeResponse {
    /// The scope.
    #[prost(string, tag = "1")]
    pub scope: ::prost::alloc::string::String,
    /// What it allows.
    #[prost(string, tag = "2")]
    pub description: ::prost::alloc::string::String,
    /// The scopes that come with it, with the path from it: the first 500, sorted by scope.
    #[prost(message, repeated, tag = "3")]
    pub implies: ::prost::alloc::vec::Vec<ScopePath>,
    /// The scopes that bring it, with the path to it: the first 500, sorted by the granted
    /// scope.
    #[prost(message, repeated, tag = "4")]
    pub implied_by: ::prost::alloc::vec::Vec<ScopePath>,
    /// The presets that bring it. Sorted.
    #[prost(string, repeated, tag = "5")]
    pub presets: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// The key types that cannot hold it. Sorted.
    #[prost(string, repeated, tag = "6")]
    pub capped_key_types: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// How many active keys hold it now.
    #[prost(int64, tag = "7")]
    pub active_key_count: i64,
    /// How many scopes come with it in all.
    #[prost(int64, tag = "8")]
    pub implies_count: i64,
    /// How many scopes bring it in all.
    #[prost(int64, tag = "9")]
    pub implied_by_count: i64,
}
/// Generated server implementations.
#[cfg(feature = "testing")]
pub mod keyspace_service_server {
    #![allow(
        unused_variables,
        dead_code,
        missing_docs,
        clippy::wildcard_imports,
        clippy::let_unit_value,
    )]
    use tonic::codegen::*;
    /// Generated trait containing gRPC methods that should be implemented for use with KeyspaceServiceServer.
    #[async_trait]
    pub trait KeyspaceService: std::marker::Send + std::marker::Sync + 'static {
        /// Makes a keyspace as declared, or changes it to that. Applying the same declaration
        /// again changes nothing. One that says nothing but the name of a keyspace that is there
        /// is refused: it would take away all that the keyspace declares.
        ///
        /// Errors: `INVALID_KEYSPACE`, `STILL_IN_USE`, `REVISION_CHANGED`, `KEYSPACE_IS_BUILT_IN`,
        /// `KEYSPACE_NOT_BOUND`.
        async fn apply_keyspace(
            &self,
            request: tonic::Request<super::ApplyKeyspaceRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ApplyKeyspaceResponse>,
            tonic::Status,
        >;
        /// Reads a keyspace's declaration.
        ///
        /// Errors: `KEYSPACE_NOT_FOUND`, `KEYSPACE_NOT_BOUND`.
        async fn get_keyspace(
            &self,
            request: tonic::Request<super::GetKeyspaceRequest>,
        ) -> std::result::Result<
            tonic::Response<super::GetKeyspaceResponse>,
            tonic::Status,
        >;
        /// Lists the keyspaces that the caller's credential is bound to, by name.
        ///
        /// Errors: `INVALID_FIELD`.
        async fn list_keyspaces(
            &self,
            request: tonic::Request<super::ListKeyspacesRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ListKeyspacesResponse>,
            tonic::Status,
        >;
        /// Says what a scope implies and what implies it, and by which path.
        ///
        /// Errors: `KEYSPACE_NOT_FOUND`, `KEYSPACE_NOT_BOUND`, `UNKNOWN_SCOPE`.
        async fn explain_scope(
            &self,
            request: tonic::Request<super::ExplainScopeRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ExplainScopeResponse>,
            tonic::Status,
        >;
    }
    /// Manages keyspaces.
    #[derive(Debug)]
    pub struct KeyspaceServiceServer<T> {
        inner: Arc<T>,
        accept_compression_encodings: EnabledCompressionEncodings,
        send_compression_encodings: EnabledCompressionEncodings,
        max_decoding_message_size: Option<usize>,
        max_encoding_message_size: Option<usize>,
    }
    impl<T> KeyspaceServiceServer<T> {
        pub fn new(inner: T) -> Self {
            Self::from_arc(Arc::new(inner))
        }
        pub fn from_arc(inner: Arc<T>) -> Self {
            Self {
                inner,
                accept_compression_encodings: Default::default(),
                send_compression_encodings: Default::default(),
                max_decoding_message_size: None,
                max_encoding_message_size: None,
            }
        }
        pub fn with_interceptor<F>(
            inner: T,
            interceptor: F,
        ) -> InterceptedService<Self, F>
        where
            F: tonic::service::Interceptor,
        {
            InterceptedService::new(Self::new(inner), interceptor)
        }
        /// Enable decompressing requests with the given encoding.
        #[must_use]
        pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.accept_compression_encodings.enable(encoding);
            self
        }
        /// Compress responses with the given encoding, if the client supports it.
        #[must_use]
        pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.send_compression_encodings.enable(encoding);
            self
        }
        /// Limits the maximum size of a decoded message.
        ///
        /// Default: `4MB`
        #[must_use]
        pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
            self.max_decoding_message_size = Some(limit);
            self
        }
        /// Limits the maximum size of an encoded message.
        ///
        /// Default: `usize::MAX`
        #[must_use]
        pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
            self.max_encoding_message_size = Some(limit);
            self
        }
    }
    impl<T, B> tonic::codegen::Service<http::Request<B>> for KeyspaceServiceServer<T>
    where
        T: KeyspaceService,
        B: Body + std::marker::Send + 'static,
        B::Error: Into<StdError> + std::marker::Send + 'static,
    {
        type Response = http::Response<tonic::body::Body>;
        type Error = std::convert::Infallible;
        type Future = BoxFuture<Self::Response, Self::Error>;
        fn poll_ready(
            &mut self,
            _cx: &mut Context<'_>,
        ) -> Poll<std::result::Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, req: http::Request<B>) -> Self::Future {
            match req.uri().path() {
                "/keyfence.v1.KeyspaceService/ApplyKeyspace" => {
                    #[allow(non_camel_case_types)]
                    struct ApplyKeyspaceSvc<T: KeyspaceService>(pub Arc<T>);
                    impl<
                        T: KeyspaceService,
                    > tonic::server::UnaryService<super::ApplyKeyspaceRequest>
                    for ApplyKeyspaceSvc<T> {
                        type Response = super::ApplyKeyspaceResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::ApplyKeyspaceRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as KeyspaceService>::apply_keyspace(&inner, request)
                                    .await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = ApplyKeyspaceSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.KeyspaceService/GetKeyspace" => {
                    #[allow(non_camel_case_types)]
                    struct GetKeyspaceSvc<T: KeyspaceService>(pub Arc<T>);
                    impl<
                        T: KeyspaceService,
                    > tonic::server::UnaryService<super::GetKeyspaceRequest>
                    for GetKeyspaceSvc<T> {
                        type Response = super::GetKeyspaceResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::GetKeyspaceRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as KeyspaceService>::get_keyspace(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = GetKeyspaceSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.KeyspaceService/ListKeyspaces" => {
                    #[allow(non_camel_case_types)]
                    struct ListKeyspacesSvc<T: KeyspaceService>(pub Arc<T>);
                    impl<
                        T: KeyspaceService,
                    > tonic::server::UnaryService<super::ListKeyspacesRequest>
                    for ListKeyspacesSvc<T> {
                        type Response = super::ListKeyspacesResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::ListKeyspacesRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as KeyspaceService>::list_keyspaces(&inner, request)
                                    .await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = ListKeyspacesSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.KeyspaceService/ExplainScope" => {
                    #[allow(non_camel_case_types)]
                    struct ExplainScopeSvc<T: KeyspaceService>(pub Arc<T>);
                    impl<
                        T: KeyspaceService,
                    > tonic::server::UnaryService<super::ExplainScopeRequest>
                    for ExplainScopeSvc<T> {
                        type Response = super::ExplainScopeResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::ExplainScopeRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as KeyspaceService>::explain_scope(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = ExplainScopeSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                _ => {
                    Box::pin(async move {
                        let mut response = http::Response::new(
                            tonic::body::Body::default(),
                        );
                        let headers = response.headers_mut();
                        headers
                            .insert(
                                tonic::Status::GRPC_STATUS,
                                (tonic::Code::Unimplemented as i32).into(),
                            );
                        headers
                            .insert(
                                http::header::CONTENT_TYPE,
                                tonic::metadata::GRPC_CONTENT_TYPE,
                            );
                        Ok(response)
                    })
                }
            }
        }
    }
    impl<T> Clone for KeyspaceServiceServer<T> {
        fn clone(&self) -> Self {
            let inner = self.inner.clone();
            Self {
                inner,
                accept_compression_encodings: self.accept_compression_encodings,
                send_compression_encodings: self.send_compression_encodings,
                max_decoding_message_size: self.max_decoding_message_size,
                max_encoding_message_size: self.max_encoding_message_size,
            }
        }
    }
    /// Generated gRPC service name
    pub const SERVICE_NAME: &str = "keyfence.v1.KeyspaceService";
    impl<T> tonic::server::NamedService for KeyspaceServiceServer<T> {
        const NAME: &'static str = SERVICE_NAME;
    }
}
/// What a holder says on its stream.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SyncRequest {
    /// One of the things that a holder says.
    #[prost(oneof = "sync_request::Message", tags = "1, 2, 3")]
    pub message: ::core::option::Option<sync_request::Message>,
}
/// Nested message and enum types in `SyncRequest`.
pub mod sync_request {
    /// One of the things that a holder says.
    #[derive(Clone, PartialEq, Eq, Hash, ::prost::Oneof)]
    pub enum Message {
        /// First, once.
        #[prost(message, tag = "1")]
        Hello(super::Hello),
        /// From then on, as often as the grantor's leases say, and whenever there is something to
        /// acknowledge.
        #[prost(message, tag = "2")]
        Renew(super::Renew),
        /// The answer to `End`. The last message of the stream.
        #[prost(message, tag = "3")]
        GivenUp(super::GivenUp),
    }
}
/// Who the holder is.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Hello {
    /// An id that the holder draws at random when it starts, 16 to 64 characters.
    #[prost(string, tag = "1")]
    pub holder_id: ::prost::alloc::string::String,
    /// What kind of holder it is.
    #[prost(enumeration = "HolderKind", tag = "2")]
    pub kind: i32,
    /// For people: a host's name, a process id.
    #[prost(string, tag = "3")]
    pub display_name: ::prost::alloc::string::String,
    /// The version of the protocol that the holder speaks. This is version 1. Not set: the same.
    #[prost(int32, tag = "4")]
    pub protocol_version: i32,
}
/// The holder has forgotten everything and answers nothing from memory, nor does any holder
/// downstream of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct GivenUp {}
/// Asks for a lease, acknowledges changes, or both.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Renew {
    /// Grows by one with every request for a lease on this stream. Zero: this one asks for
    /// none, it only acknowledges.
    #[prost(int64, tag = "1")]
    pub nonce: i64,
    /// Every change up to this revision is applied, here and at every holder downstream.
    #[prost(int64, tag = "2")]
    pub applied_revision: i64,
}
/// What the grantor sends on the stream.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SyncResponse {
    /// One of the messages of a grantor.
    #[prost(oneof = "sync_response::Message", tags = "1, 2, 3")]
    pub message: ::core::option::Option<sync_response::Message>,
}
/// Nested message and enum types in `SyncResponse`.
pub mod sync_response {
    /// One of the messages of a grantor.
    #[derive(Clone, PartialEq, ::prost::Oneof)]
    pub enum Message {
        /// The answer to `Renew`.
        #[prost(message, tag = "1")]
        Lease(super::Lease),
        /// The changes of one revision, or of several that follow one another.
        #[prost(message, tag = "2")]
        Changes(super::RevisionChanges),
        /// The grantor revokes every lease.
        #[prost(message, tag = "3")]
        End(super::End),
    }
}
/// The right to answer from memory for a time.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Lease {
    /// Of the `Renew` that this answers.
    #[prost(int64, tag = "1")]
    pub nonce: i64,
    /// How long, counted from when the holder *sent* that `Renew`, by the holder's clock.
    /// Zero: the grantor has no lease of its own now.
    #[prost(message, optional, tag = "2")]
    pub ttl: ::core::option::Option<::prost_types::Duration>,
    /// The holder answers under this lease only when it has applied everything up to here.
    #[prost(int64, tag = "3")]
    pub head_revision: i64,
    /// Changes when revisions before and after cannot be compared, as after a failover that
    /// lost some. A holder that sees another epoch than before forgets everything.
    #[prost(string, tag = "4")]
    pub epoch: ::prost::alloc::string::String,
    /// How long after it sent that `Renew` the holder is to send the next one that asks for a
    /// lease. Not set: a third of `ttl`.
    #[prost(message, optional, tag = "5")]
    pub renew_after: ::core::option::Option<::prost_types::Duration>,
    /// How far clocks may drift, as a part of a second in a second. A holder that grants leases
    /// in its turn allows for at least as much.
    #[prost(double, tag = "6")]
    pub clock_drift: f64,
}
/// The grantor revokes every lease of the holder, because the holder's credential has
/// changed. The holder forgets everything, says `GivenUp`, and closes the stream. If its
/// credential is still good, it may open another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct End {}
/// What one revision changed, or several that follow one another. The holder applies all of it, and
/// acknowledges it once.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RevisionChanges {
    /// The revision, the last one of several. They come in order and without gaps; a holder that
    /// misses one forgets everything and goes on from the next lease's head.
    #[prost(int64, tag = "1")]
    pub revision: i64,
    /// What is no longer as it was, as far as it is the holder's business: a revision that
    /// changes nothing within the reach of the holder's credential adds nothing.
    #[prost(message, repeated, tag = "2")]
    pub changes: ::prost::alloc::vec::Vec<SubjectChange>,
    /// The first revision of several. Not set: `revision` is the only one.
    #[prost(int64, tag = "3")]
    pub first_revision: i64,
}
/// One thing that is no longer as it was.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SubjectChange {
    /// Whether it was not there before: what is remembered as unknown must be forgotten.
    #[prost(bool, tag = "3")]
    pub created: bool,
    /// The keyspace that it is in, for a holder that grants leases in its turn.
    #[prost(string, tag = "6")]
    pub in_keyspace: ::prost::alloc::string::String,
    /// What it is. A holder that finds none of these set has met a kind that it does not know, and
    /// forgets everything before it acknowledges.
    #[prost(oneof = "subject_change::Subject", tags = "1, 2, 4, 5")]
    pub subject: ::core::option::Option<subject_change::Subject>,
}
/// Nested message and enum types in `SubjectChange`.
pub mod subject_change {
    /// What it is. A holder that finds none of these set has met a kind that it does not know, and
    /// forgets everything before it acknowledges.
    #[derive(Clone, PartialEq, Eq, Hash, ::prost::Oneof)]
    pub enum Subject {
        /// The key.
        #[prost(string, tag = "1")]
        KeyId(::prost::alloc::string::String),
        /// The keyspace.
        #[prost(string, tag = "2")]
        Keyspace(::prost::alloc::string::String),
        /// The account: what is known of its keys and sessions.
        #[prost(string, tag = "4")]
        AccountId(::prost::alloc::string::String),
        /// The session.
        #[prost(string, tag = "5")]
        SessionId(::prost::alloc::string::String),
    }
}
/// The request of `FetchFacts`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
#[prost(skip_debug)]
pub struct FetchFactsRequest {
    /// The key that was presented, in plaintext.
    #[prost(string, tag = "1")]
    pub api_key: ::prost::alloc::string::String,
    /// The holder's own applied revision: the answer is no older.
    #[prost(int64, tag = "2")]
    pub at_least_revision: i64,
}
/// The response of `FetchFacts`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct FetchFactsResponse {
    /// For a holder that grants leases in its turn, as a sidecar does: the key's record and those of
    /// the keys that it was delegated from, the key first. Others read `facts`. Empty: there is none
    /// that the caller may know of.
    #[prost(message, repeated, tag = "1")]
    pub lineage: ::prost::alloc::vec::Vec<Key>,
    /// The revision that the answer reflects at least.
    #[prost(int64, tag = "2")]
    pub revision: i64,
    /// Whether a text like this could be a key at all.
    #[prost(bool, tag = "3")]
    pub well_formed: bool,
    /// Whether the key's owner is a registered account that is disabled.
    #[prost(bool, tag = "4")]
    pub account_disabled: bool,
    /// Whether checks of the key count against a rate limit. They are not answered from
    /// memory, but sent to the grantor, so that all of them are counted in one place.
    #[prost(bool, tag = "5")]
    pub is_counted: bool,
    /// That of the revision, as in `Lease`: a holder takes nothing of another one.
    #[prost(string, tag = "6")]
    pub epoch: ::prost::alloc::string::String,
    /// All that a holder needs to answer checks of the key. Not set: there is nothing to remember.
    /// The key is unknown, or the caller may not know of it, or it is an operator credential.
    #[prost(message, optional, tag = "7")]
    pub facts: ::core::option::Option<KeyFacts>,
}
/// What is known of a key, ready to answer checks from.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct KeyFacts {
    /// Whose key it is. `effective_scopes` are the scopes that checks pass for: all of them, however
    /// many there are.
    #[prost(message, optional, tag = "1")]
    pub principal: ::core::option::Option<Principal>,
    /// Why the key does not pass, whatever the time and the address: `REASON_KEY_REVOKED`,
    /// `REASON_KEY_DISABLED` or `REASON_ACCOUNT_DISABLED`. `REASON_OK`: it may pass. A revoked key is
    /// revoked first; else an expired key is expired first; else this counts, then the address, then
    /// the scopes.
    #[prost(enumeration = "Reason", tag = "2")]
    pub standing: i32,
    /// When the key, or the first of those that it was delegated from, expires. Not set: never.
    #[prost(message, optional, tag = "3")]
    pub expire_time: ::core::option::Option<::prost_types::Timestamp>,
    /// The caller's address must be in each of these lists. Empty: any address, and none, will do.
    #[prost(message, repeated, tag = "4")]
    pub address_lists: ::prost::alloc::vec::Vec<AddressList>,
    /// Whether checks of the key count against a rate limit. They are sent to the grantor, so that
    /// they are all counted in one place.
    #[prost(bool, tag = "5")]
    pub is_counted: bool,
    /// What the facts follow from: "key:ID", "keyspace:NAME", "account:ID" or "session:ID". When one
    /// of these changes, as `SubjectChange` says by the field of that name, the facts must be dropped.
    #[prost(string, repeated, tag = "6")]
    pub depends_on: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
}
/// Addresses that a key may be presented from.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct AddressList {
    /// Addresses and networks, for example "192.0.2.7/32" or "2001:db8::/32".
    #[prost(string, repeated, tag = "1")]
    pub networks: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
}
/// The request of `FetchKeyspaces`.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct FetchKeyspacesRequest {
    /// The holder's own applied revision: the answer is no older.
    #[prost(int64, tag = "1")]
    pub at_least_revision: i64,
    /// The `next_page_token` of the page before. Empty: the first page.
    #[prost(string, tag = "2")]
    pub page_token: ::prost::alloc::string::String,
    /// Only the keyspace of this name. The answer is empty if there is none, or if the caller's
    /// credential is not bound to it. Empty: all.
    #[prost(string, tag = "3")]
    pub keyspace: ::prost::alloc::string::String,
}
/// The response of `FetchKeyspaces`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct FetchKeyspacesResponse {
    /// The keyspaces, in the order of their names: as many as fit into an answer, at least one.
    #[prost(message, repeated, tag = "1")]
    pub keyspaces: ::prost::alloc::vec::Vec<Keyspace>,
    /// The revision that the answer reflects at least.
    #[prost(int64, tag = "2")]
    pub revision: i64,
    /// As in `FetchFactsResponse`.
    #[prost(string, tag = "3")]
    pub epoch: ::prost::alloc::string::String,
    /// Where the next page begins. Empty: this is the last one. Pages may reflect different
    /// revisions, each of them no older than was asked for.
    #[prost(string, tag = "4")]
    pub next_page_token: ::prost::alloc::string::String,
}
/// The request of `ReportUses`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ReportUsesRequest {
    /// At most 10000, one for each key and day.
    #[prost(message, repeated, tag = "1")]
    pub uses: ::prost::alloc::vec::Vec<ReportedUse>,
    /// At most 10000. They become audit events that name the caller's credential as the reporter.
    #[prost(message, repeated, tag = "2")]
    pub attempts: ::prost::alloc::vec::Vec<ReportedAttempt>,
}
/// The uses of a key on a day, since the holder's last report.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ReportedUse {
    /// The key.
    #[prost(string, tag = "1")]
    pub key_id: ::prost::alloc::string::String,
    /// The day, in UTC, for example "2026-01-31".
    #[prost(string, tag = "2")]
    pub day: ::prost::alloc::string::String,
    /// When it was last used.
    #[prost(message, optional, tag = "3")]
    pub last_used_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Where it was presented from then. Empty: unknown.
    #[prost(string, tag = "4")]
    pub last_used_address: ::prost::alloc::string::String,
    /// How often.
    #[prost(int64, tag = "5")]
    pub count: i64,
}
/// Alike attempts that the holder has denied since its last report.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ReportedAttempt {
    /// The keyspace that they were about, which the caller's credential is bound to; or "system"
    /// for calls of the holder itself that were denied. Empty: unknown.
    #[prost(string, tag = "1")]
    pub keyspace: ::prost::alloc::string::String,
    /// Why they were denied.
    #[prost(enumeration = "Reason", tag = "2")]
    pub reason: i32,
    /// The account whose key it was. Empty: unknown.
    #[prost(string, tag = "3")]
    pub account_id: ::prost::alloc::string::String,
    /// The key's id, or the display prefix of one that is not known. Empty: neither.
    #[prost(string, tag = "4")]
    pub subject: ::prost::alloc::string::String,
    /// Where they came from. Empty: unknown.
    #[prost(string, tag = "5")]
    pub address: ::prost::alloc::string::String,
    /// When the first one was.
    #[prost(message, optional, tag = "6")]
    pub first_time: ::core::option::Option<::prost_types::Timestamp>,
    /// When the last one was.
    #[prost(message, optional, tag = "7")]
    pub last_time: ::core::option::Option<::prost_types::Timestamp>,
    /// How many there were.
    #[prost(int64, tag = "8")]
    pub count: i64,
    /// Of the request that the first one was made in. Empty: it had none.
    #[prost(string, tag = "9")]
    pub request_id: ::prost::alloc::string::String,
}
/// The response of `ReportUses`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ReportUsesResponse {
    /// How many of the attempts were refused.
    #[prost(int32, tag = "1")]
    pub refused_attempts: i32,
}
/// The request of `ListReplicas`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ListReplicasRequest {}
/// The response of `ListReplicas`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListReplicasResponse {
    /// The holders, each after the one that it is downstream of.
    #[prost(message, repeated, tag = "1")]
    pub replicas: ::prost::alloc::vec::Vec<Replica>,
    /// The newest revision.
    #[prost(int64, tag = "2")]
    pub head_revision: i64,
}
/// A holder, as its grantor sees it.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Replica {
    /// The holder's id.
    #[prost(string, tag = "1")]
    pub holder_id: ::prost::alloc::string::String,
    /// Its kind.
    #[prost(enumeration = "HolderKind", tag = "2")]
    pub kind: i32,
    /// For people: a host's name, a process id.
    #[prost(string, tag = "3")]
    pub display_name: ::prost::alloc::string::String,
    /// The holder that grants it its lease. Empty: the store itself.
    #[prost(string, tag = "4")]
    pub grantor_id: ::prost::alloc::string::String,
    /// The revision up to which it has acknowledged every change.
    #[prost(int64, tag = "5")]
    pub applied_revision: i64,
    /// How long ago it last renewed. Of a server process: for how long the one that is asked has
    /// not seen it renew, which it looks for once in each interval of renewal.
    #[prost(message, optional, tag = "6")]
    pub lease_age: ::core::option::Option<::prost_types::Duration>,
    /// When it joined.
    #[prost(message, optional, tag = "7")]
    pub join_time: ::core::option::Option<::prost_types::Timestamp>,
    /// The id of the credential that the holder uses. Empty: it is a server process.
    #[prost(string, tag = "8")]
    pub credential_id: ::prost::alloc::string::String,
    /// The account that the credential belongs to. Empty: likewise.
    #[prost(string, tag = "9")]
    pub account_id: ::prost::alloc::string::String,
}
/// Kinds of holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum HolderKind {
    /// Never sent.
    Unspecified = 0,
    /// A server process on the store.
    Server = 1,
    /// A sidecar.
    Sidecar = 2,
    /// The cache inside an SDK.
    Sdk = 3,
}
impl HolderKind {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "HOLDER_KIND_UNSPECIFIED",
            Self::Server => "HOLDER_KIND_SERVER",
            Self::Sidecar => "HOLDER_KIND_SIDECAR",
            Self::Sdk => "HOLDER_KIND_SDK",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "HOLDER_KIND_UNSPECIFIED" => Some(Self::Unspecified),
            "HOLDER_KIND_SERVER" => Some(Self::Server),
            "HOLDER_KIND_SIDECAR" => Some(Self::Sidecar),
            "HOLDER_KIND_SDK" => Some(Self::Sdk),
            _ => None,
        }
    }
}
/// Generated server implementations.
#[cfg(feature = "testing")]
pub mod replication_service_server {
    #![allow(
        unused_variables,
        dead_code,
        missing_docs,
        clippy::wildcard_imports,
        clippy::let_unit_value,
    )]
    use tonic::codegen::*;
    /// Generated trait containing gRPC methods that should be implemented for use with ReplicationServiceServer.
    #[async_trait]
    pub trait ReplicationService: std::marker::Send + std::marker::Sync + 'static {
        /// Server streaming response type for the Sync method.
        type SyncStream: tonic::codegen::tokio_stream::Stream<
                Item = std::result::Result<super::SyncResponse, tonic::Status>,
            >
            + std::marker::Send
            + 'static;
        /// One stream a holder, for as long as it wants to answer from memory.
        ///
        /// A holder gives up what it holds before it says hello. So it waits for the header
        /// `x-keyfence-let-in`, which the grantor sends before any message: until it is there,
        /// the holder has been refused, or not been heard.
        ///
        /// Errors: `INVALID_FIELD`, `LIMIT_REACHED`, `PROTOCOL_VERSION_UNSUPPORTED`, `SHUTTING_DOWN`.
        async fn sync(
            &self,
            request: tonic::Request<tonic::Streaming<super::SyncRequest>>,
        ) -> std::result::Result<tonic::Response<Self::SyncStream>, tonic::Status>;
        /// Loads what is known of a presented key, for a holder to keep.
        ///
        /// Errors: `REVISION_NOT_REACHED`, `STORE_UNAVAILABLE`.
        async fn fetch_facts(
            &self,
            request: tonic::Request<super::FetchFactsRequest>,
        ) -> std::result::Result<
            tonic::Response<super::FetchFactsResponse>,
            tonic::Status,
        >;
        /// Loads the keyspaces that the caller's credential is bound to, whole.
        ///
        /// Errors: `REVISION_NOT_REACHED`, `STORE_UNAVAILABLE`.
        async fn fetch_keyspaces(
            &self,
            request: tonic::Request<super::FetchKeyspacesRequest>,
        ) -> std::result::Result<
            tonic::Response<super::FetchKeyspacesResponse>,
            tonic::Status,
        >;
        /// Takes in how keys were used in checks that the holder has answered, and which attempts
        /// it has denied. Attempts that cannot be, or that the caller's credential may not know of,
        /// are refused one by one; all else of the report counts.
        ///
        /// Errors: `INVALID_FIELD`.
        async fn report_uses(
            &self,
            request: tonic::Request<super::ReportUsesRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ReportUsesResponse>,
            tonic::Status,
        >;
        /// Lists the holders that answer from memory, and how far behind each of them is.
        ///
        /// Errors: `STORE_UNAVAILABLE`.
        async fn list_replicas(
            &self,
            request: tonic::Request<super::ListReplicasRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ListReplicasResponse>,
            tonic::Status,
        >;
    }
    /// Grants leases to holders, tells them of changes, and hands out the facts that they
    /// keep. A holder may answer checks from memory while its lease lives, and only then.
    /// docs/fence.md explains the protocol, and docs/holder-protocol.md specifies the holder's side.
    #[derive(Debug)]
    pub struct ReplicationServiceServer<T> {
        inner: Arc<T>,
        accept_compression_encodings: EnabledCompressionEncodings,
        send_compression_encodings: EnabledCompressionEncodings,
        max_decoding_message_size: Option<usize>,
        max_encoding_message_size: Option<usize>,
    }
    impl<T> ReplicationServiceServer<T> {
        pub fn new(inner: T) -> Self {
            Self::from_arc(Arc::new(inner))
        }
        pub fn from_arc(inner: Arc<T>) -> Self {
            Self {
                inner,
                accept_compression_encodings: Default::default(),
                send_compression_encodings: Default::default(),
                max_decoding_message_size: None,
                max_encoding_message_size: None,
            }
        }
        pub fn with_interceptor<F>(
            inner: T,
            interceptor: F,
        ) -> InterceptedService<Self, F>
        where
            F: tonic::service::Interceptor,
        {
            InterceptedService::new(Self::new(inner), interceptor)
        }
        /// Enable decompressing requests with the given encoding.
        #[must_use]
        pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.accept_compression_encodings.enable(encoding);
            self
        }
        /// Compress responses with the given encoding, if the client supports it.
        #[must_use]
        pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.send_compression_encodings.enable(encoding);
            self
        }
        /// Limits the maximum size of a decoded message.
        ///
        /// Default: `4MB`
        #[must_use]
        pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
            self.max_decoding_message_size = Some(limit);
            self
        }
        /// Limits the maximum size of an encoded message.
        ///
        /// Default: `usize::MAX`
        #[must_use]
        pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
            self.max_encoding_message_size = Some(limit);
            self
        }
    }
    impl<T, B> tonic::codegen::Service<http::Request<B>> for ReplicationServiceServer<T>
    where
        T: ReplicationService,
        B: Body + std::marker::Send + 'static,
        B::Error: Into<StdError> + std::marker::Send + 'static,
    {
        type Response = http::Response<tonic::body::Body>;
        type Error = std::convert::Infallible;
        type Future = BoxFuture<Self::Response, Self::Error>;
        fn poll_ready(
            &mut self,
            _cx: &mut Context<'_>,
        ) -> Poll<std::result::Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, req: http::Request<B>) -> Self::Future {
            match req.uri().path() {
                "/keyfence.v1.ReplicationService/Sync" => {
                    #[allow(non_camel_case_types)]
                    struct SyncSvc<T: ReplicationService>(pub Arc<T>);
                    impl<
                        T: ReplicationService,
                    > tonic::server::StreamingService<super::SyncRequest>
                    for SyncSvc<T> {
                        type Response = super::SyncResponse;
                        type ResponseStream = T::SyncStream;
                        type Future = BoxFuture<
                            tonic::Response<Self::ResponseStream>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<tonic::Streaming<super::SyncRequest>>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as ReplicationService>::sync(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = SyncSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.streaming(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.ReplicationService/FetchFacts" => {
                    #[allow(non_camel_case_types)]
                    struct FetchFactsSvc<T: ReplicationService>(pub Arc<T>);
                    impl<
                        T: ReplicationService,
                    > tonic::server::UnaryService<super::FetchFactsRequest>
                    for FetchFactsSvc<T> {
                        type Response = super::FetchFactsResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::FetchFactsRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as ReplicationService>::fetch_facts(&inner, request)
                                    .await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = FetchFactsSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.ReplicationService/FetchKeyspaces" => {
                    #[allow(non_camel_case_types)]
                    struct FetchKeyspacesSvc<T: ReplicationService>(pub Arc<T>);
                    impl<
                        T: ReplicationService,
                    > tonic::server::UnaryService<super::FetchKeyspacesRequest>
                    for FetchKeyspacesSvc<T> {
                        type Response = super::FetchKeyspacesResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::FetchKeyspacesRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as ReplicationService>::fetch_keyspaces(&inner, request)
                                    .await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = FetchKeyspacesSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.ReplicationService/ReportUses" => {
                    #[allow(non_camel_case_types)]
                    struct ReportUsesSvc<T: ReplicationService>(pub Arc<T>);
                    impl<
                        T: ReplicationService,
                    > tonic::server::UnaryService<super::ReportUsesRequest>
                    for ReportUsesSvc<T> {
                        type Response = super::ReportUsesResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::ReportUsesRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as ReplicationService>::report_uses(&inner, request)
                                    .await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = ReportUsesSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/keyfence.v1.ReplicationService/ListReplicas" => {
                    #[allow(non_camel_case_types)]
                    struct ListReplicasSvc<T: ReplicationService>(pub Arc<T>);
                    impl<
                        T: ReplicationService,
                    > tonic::server::UnaryService<super::ListReplicasRequest>
                    for ListReplicasSvc<T> {
                        type Response = super::ListReplicasResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<super::ListReplicasRequest>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as ReplicationService>::list_replicas(&inner, request)
                                    .await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = ListReplicasSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                _ => {
                    Box::pin(async move {
                        let mut response = http::Response::new(
                            tonic::body::Body::default(),
                        );
                        let headers = response.headers_mut();
                        headers
                            .insert(
                                tonic::Status::GRPC_STATUS,
                                (tonic::Code::Unimplemented as i32).into(),
                            );
                        headers
                            .insert(
                                http::header::CONTENT_TYPE,
                                tonic::metadata::GRPC_CONTENT_TYPE,
                            );
                        Ok(response)
                    })
                }
            }
        }
    }
    impl<T> Clone for ReplicationServiceServer<T> {
        fn clone(&self) -> Self {
            let inner = self.inner.clone();
            Self {
                inner,
                accept_compression_encodings: self.accept_compression_encodings,
                send_compression_encodings: self.send_compression_encodings,
                max_decoding_message_size: self.max_decoding_message_size,
                max_encoding_message_size: self.max_encoding_message_size,
            }
        }
    }
    /// Generated gRPC service name
    pub const SERVICE_NAME: &str = "keyfence.v1.ReplicationService";
    impl<T> tonic::server::NamedService for ReplicationServiceServer<T> {
        const NAME: &'static str = SERVICE_NAME;
    }
}
impl ::core::fmt::Debug for AuthenticateRequest {
    fn fmt(&self, out: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        out.debug_struct("AuthenticateRequest")
            .field("api_key", &crate::secret::shown(&self.api_key))
            .field("keyspace", &self.keyspace)
            .field("client_address", &self.client_address)
            .field("at_least_revision", &self.at_least_revision)
            .field("cost", &self.cost)
            .finish()
    }
}
impl ::core::fmt::Debug for CheckScopeRequest {
    fn fmt(&self, out: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        out.debug_struct("CheckScopeRequest")
            .field("api_key", &crate::secret::shown(&self.api_key))
            .field("required_scopes", &self.required_scopes)
            .field("keyspace", &self.keyspace)
            .field("client_address", &self.client_address)
            .field("at_least_revision", &self.at_least_revision)
            .field("explain", &self.explain)
            .field("cost", &self.cost)
            .finish()
    }
}
impl ::core::fmt::Debug for CreateKeyResponse {
    fn fmt(&self, out: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        out.debug_struct("CreateKeyResponse")
            .field("key", &self.key)
            .field("api_key", &crate::secret::shown(&self.api_key))
            .field("revision", &self.revision)
            .finish()
    }
}
impl ::core::fmt::Debug for FetchFactsRequest {
    fn fmt(&self, out: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        out.debug_struct("FetchFactsRequest")
            .field("api_key", &crate::secret::shown(&self.api_key))
            .field("at_least_revision", &self.at_least_revision)
            .finish()
    }
}
impl ::core::fmt::Debug for KeyToImport {
    fn fmt(&self, out: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        out.debug_struct("KeyToImport")
            .field("secret", &self.secret)
            .field("account_id", &self.account_id)
            .field("display_name", &self.display_name)
            .field("scopes", &self.scopes)
            .field("preset", &self.preset)
            .field("key_type", &self.key_type)
            .field("environment", &self.environment)
            .field("expire_time", &self.expire_time)
            .field("allowed_addresses", &self.allowed_addresses)
            .field("labels", &self.labels)
            .field("rate_limit", &self.rate_limit)
            .finish()
    }
}
impl ::core::fmt::Debug for key_to_import::Secret {
    fn fmt(&self, out: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        match self {
            Self::ApiKey(value) => {
                out.debug_tuple("ApiKey").field(&crate::secret::shown(value)).finish()
            }
            Self::Sha256(value) => {
                out.debug_tuple("Sha256").field(&crate::secret::shown(value)).finish()
            }
            Self::Sha512(value) => {
                out.debug_tuple("Sha512").field(&crate::secret::shown(value)).finish()
            }
            Self::HmacSha256(value) => {
                out.debug_tuple("HmacSha256")
                    .field(&crate::secret::shown(value))
                    .finish()
            }
            Self::PasswordHash(value) => {
                out.debug_tuple("PasswordHash").field(&value).finish()
            }
        }
    }
}
impl ::core::fmt::Debug for LogInRequest {
    fn fmt(&self, out: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        out.debug_struct("LogInRequest")
            .field("keyspace", &self.keyspace)
            .field("email", &self.email)
            .field("password", &crate::secret::shown(&self.password))
            .finish()
    }
}
impl ::core::fmt::Debug for LogInResponse {
    fn fmt(&self, out: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        out.debug_struct("LogInResponse")
            .field("session_token", &crate::secret::shown(&self.session_token))
            .field("session", &self.session)
            .field("account", &self.account)
            .field("revision", &self.revision)
            .finish()
    }
}
impl ::core::fmt::Debug for PasswordHash {
    fn fmt(&self, out: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        out.debug_struct("PasswordHash")
            .field("prefix", &self.prefix)
            .field("hash", &crate::secret::shown(&self.hash))
            .finish()
    }
}
impl ::core::fmt::Debug for RegisterAccountRequest {
    fn fmt(&self, out: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        out.debug_struct("RegisterAccountRequest")
            .field("keyspace", &self.keyspace)
            .field("email", &self.email)
            .field("password", &crate::secret::shown(&self.password))
            .field("display_name", &self.display_name)
            .field("plan", &self.plan)
            .field("labels", &self.labels)
            .finish()
    }
}
impl ::core::fmt::Debug for RotateKeyResponse {
    fn fmt(&self, out: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        out.debug_struct("RotateKeyResponse")
            .field("key", &self.key)
            .field("api_key", &crate::secret::shown(&self.api_key))
            .field("previous_key", &self.previous_key)
            .field("revision", &self.revision)
            .finish()
    }
}
impl ::core::fmt::Debug for UpdateAccountRequest {
    fn fmt(&self, out: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        out.debug_struct("UpdateAccountRequest")
            .field("account", &self.account)
            .field("update_mask", &self.update_mask)
            .field("if_revision", &self.if_revision)
            .field("new_password", &crate::secret::shown(&self.new_password))
            .field("current_password", &crate::secret::shown(&self.current_password))
            .field("revoke_keys", &self.revoke_keys)
            .finish()
    }
}
