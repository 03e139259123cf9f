//! Makes the stubs of the Rust client: `keyfence-generator DESCRIPTOR_SET FOLDER`.
//!
//! The messages and the server traits are what `tonic-prost-build` makes, with one difference: no
//! message prints a field that its proto marks as `debug_redact`. The calls are written here, since
//! the client adds a credential, a deadline and repetition to each.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use prost::Message as _;

const PACKAGE: &str = "keyfence.v1";
/// The service of checks, for which the client has types of its own.
const CHECKS: &str = "AuthorizationService";
const NOTICE: &str = "// Generated from protos/keyfence/v1 by `make generate`. Do not edit.\n";

/// The parts of descriptors that `prost_types` does not have: options, and extensions of them.
mod described {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Set {
        #[prost(message, repeated, tag = "1")]
        pub files: Vec<File>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct File {
        #[prost(string, tag = "2")]
        pub package: String,
        #[prost(message, repeated, tag = "4")]
        pub messages: Vec<Message>,
        #[prost(message, repeated, tag = "6")]
        pub services: Vec<Service>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Message {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, repeated, tag = "2")]
        pub fields: Vec<Field>,
        #[prost(message, repeated, tag = "8")]
        pub oneofs: Vec<Oneof>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Oneof {
        #[prost(string, tag = "1")]
        pub name: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Field {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(int32, tag = "4")]
        pub label: i32,
        #[prost(int32, tag = "5")]
        pub kind: i32,
        #[prost(string, tag = "6")]
        pub type_name: String,
        #[prost(message, optional, tag = "8")]
        pub options: Option<FieldOptions>,
        #[prost(int32, optional, tag = "9")]
        pub oneof_index: Option<i32>,
        #[prost(bool, tag = "17")]
        pub is_optional: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct FieldOptions {
        #[prost(bool, tag = "16")]
        pub debug_redact: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Service {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, repeated, tag = "2")]
        pub methods: Vec<Method>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Method {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub input: String,
        #[prost(string, tag = "3")]
        pub output: String,
        #[prost(message, optional, tag = "4")]
        pub options: Option<MethodOptions>,
        #[prost(bool, tag = "5")]
        pub is_client_stream: bool,
        #[prost(bool, tag = "6")]
        pub is_server_stream: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct MethodOptions {
        #[prost(int32, tag = "34")]
        pub idempotency_level: i32,
    }
}

use described::{Field, Message, Method, Service};

const REPEATED: i32 = 3;
const STRING: i32 = 9;
const MESSAGE: i32 = 11;
const BYTES: i32 = 12;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [descriptors, folder] = arguments.as_slice() else {
        return Err("usage: keyfence-generator DESCRIPTOR_SET FOLDER".into());
    };
    let bytes = fs::read(descriptors)?;
    let set = described::Set::decode(bytes.as_slice())?;
    let ours = || set.files.iter().filter(|file| file.package == PACKAGE);
    let messages: BTreeMap<String, &Message> = ours()
        .flat_map(|file| &file.messages)
        .map(|message| (format!(".{PACKAGE}.{}", message.name), message))
        .collect();
    let services: Vec<&Service> = ours().flat_map(|file| &file.services).collect();
    fs::create_dir_all(folder)?;
    let mut stubs = stubs(&bytes, &messages, Path::new(folder))?;
    for message in messages.values().filter(|message| holds_secret(message)) {
        stubs.push_str(&debug(message)?);
    }
    write(&Path::new(folder).join("keyfence.v1.rs"), &stubs)?;
    write(&Path::new(folder).join("calls.rs"), &calls(&services, &messages)?)
}

fn write(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    let parsed = syn::parse_file(text)?;
    fs::write(path, format!("{NOTICE}{}", prettyplease::unparse(&parsed)))?;
    Ok(())
}

fn stubs(
    bytes: &[u8],
    messages: &BTreeMap<String, &Message>,
    folder: &Path,
) -> Result<String, Box<dyn Error>> {
    let mut set = prost_types::FileDescriptorSet::decode(bytes)?;
    set.file.retain(|file| file.package() != "google.api");
    let secret: Vec<&String> =
        messages.iter().filter(|(_, message)| holds_secret(message)).map(|(name, _)| name).collect();
    let made = folder.join("made");
    fs::create_dir_all(&made)?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .server_mod_attribute(".", "#[cfg(feature = \"testing\")]")
        .skip_debug(secret)
        .out_dir(&made)
        .compile_fds(set)?;
    let text = fs::read_to_string(made.join(format!("{PACKAGE}.rs")))?;
    fs::remove_dir_all(&made)?;
    Ok(text)
}

fn is_secret(field: &Field) -> bool {
    field.options.as_ref().is_some_and(|options| options.debug_redact)
}

fn holds_secret(message: &Message) -> bool {
    message.fields.iter().any(is_secret)
}

/// The oneof of a field, if it is a member of one.
fn oneof_of<'a>(message: &'a Message, field: &Field) -> Option<&'a str> {
    let index = field.oneof_index.filter(|_| !field.is_optional)?;
    Some(&message.oneofs[usize::try_from(index).ok()?].name)
}

/// What prost calls the type of a oneof's value.
fn variant(message: &Message, oneof: &str, field: &Field) -> String {
    format!("{}::{}::{}", snake(&message.name), camel(oneof), camel(&field.name))
}

fn debug(message: &Message) -> Result<String, Box<dyn Error>> {
    let mut fields = String::new();
    let mut oneofs: BTreeMap<&str, String> = BTreeMap::new();
    for field in &message.fields {
        let name = &field.name;
        let is_text = [STRING, BYTES].contains(&field.kind) && field.label != REPEATED;
        if is_secret(field) && !is_text {
            return Err(format!("{}.{name}: secrets are single strings or bytes", message.name).into());
        }
        if let Some(oneof) = oneof_of(message, field) {
            if !oneofs.contains_key(oneof) {
                write!(fields, ".field(\"{oneof}\", &self.{oneof})")?;
            }
            write!(
                oneofs.entry(oneof).or_default(),
                "Self::{variant}(value) => out.debug_tuple(\"{variant}\").field(&{shown}).finish(),",
                variant = camel(name),
                shown = if is_secret(field) { "crate::secret::shown(value)" } else { "value" },
            )?;
        } else if is_secret(field) {
            write!(fields, ".field(\"{name}\", &crate::secret::shown(&self.{name}))")?;
        } else {
            write!(fields, ".field(\"{name}\", &self.{name})")?;
        }
    }
    let mut text =
        debug_of(&message.name, &format!("out.debug_struct(\"{}\"){fields}.finish()", message.name));
    for (oneof, arms) in oneofs {
        let path = format!("{}::{}", snake(&message.name), camel(oneof));
        text.push_str(&debug_of(&path, &format!("match self {{ {arms} }}")));
    }
    Ok(text)
}

fn debug_of(path: &str, body: &str) -> String {
    format!(
        "impl ::core::fmt::Debug for {path} {{
            fn fmt(&self, out: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{ {body} }}
        }}\n"
    )
}

/// The messages out of which a secret can be reached.
fn bearers(messages: &BTreeMap<String, &Message>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    loop {
        let before = found.len();
        for (name, message) in messages {
            let reaches = message.fields.iter().any(|field| found.contains(&field.type_name));
            if holds_secret(message) || reaches {
                found.insert(name.clone());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

fn calls(services: &[&Service], messages: &BTreeMap<String, &Message>) -> Result<String, Box<dyn Error>> {
    let bearers = bearers(messages);
    let mut text = String::new();
    for service in services {
        let name = &service.name;
        let unary =
            || service.methods.iter().filter(|method| !method.is_client_stream && !method.is_server_stream);
        if name != CHECKS {
            text.push_str(&handle(name, unary())?);
        }
        for method in unary() {
            let input = messages.get(&method.input).ok_or("an RPC takes a message of elsewhere")?;
            text.push_str(&call(service, method, input, &bearers)?);
        }
    }
    for name in &bearers {
        let message = messages[name];
        write!(
            text,
            "impl Secrets for v1::{} {{ fn secrets<'a>(&'a self, found: &mut Vec<&'a str>) {{",
            message.name
        )?;
        for field in &message.fields {
            let (value, finds, alone) = if is_secret(field) && field.kind == STRING {
                ("text", "found.push(text);", format!("found.push(&self.{});", field.name))
            } else if field.kind == MESSAGE && bearers.contains(&field.type_name) {
                let each = format!("for inner in &self.{} {{ inner.secrets(found); }}", field.name);
                ("inner", "inner.secrets(found);", each)
            } else {
                continue;
            };
            if let Some(oneof) = oneof_of(message, field) {
                let variant = variant(message, oneof, field);
                write!(text, "if let Some(v1::{variant}({value})) = &self.{oneof} {{ {finds} }}")?;
            } else {
                text.push_str(&alone);
            }
        }
        text.push_str("} }\n");
    }
    Ok(text)
}

/// The type by which the calls of a service are made.
fn handle<'a>(service: &str, methods: impl Iterator<Item = &'a Method>) -> Result<String, Box<dyn Error>> {
    let mut text = format!(
        "/// The RPCs of `{service}`.
        #[derive(Clone, Debug)]
        pub struct {service}(pub(crate) crate::Client);
        impl {service} {{"
    );
    for method in methods {
        write!(
            text,
            "/// Calls `{}`.
            pub async fn {}(&self, request: v1::{}) -> Result<v1::{}, crate::Error> {{
                self.0.call(request).await
            }}",
            method.name,
            snake(&method.name),
            short(&method.input),
            short(&method.output)
        )?;
    }
    text.push_str("}\n");
    Ok(text)
}

fn call(
    service: &Service,
    method: &Method,
    input: &Message,
    bearers: &BTreeSet<String>,
) -> Result<String, Box<dyn Error>> {
    let takes_request_id = input.fields.iter().any(|field| field.name == "request_id");
    let is_idempotent = method.options.as_ref().is_some_and(|options| options.idempotency_level != 0);
    let mut text = format!(
        "impl Call for v1::{input} {{
            type Response = v1::{output};
            const RPC: Rpc = Rpc {{
                path: \"/{PACKAGE}.{service}/{method}\",
                is_check: {is_check},
                is_repeatable: {is_repeatable},
            }};",
        input = input.name,
        output = short(&method.output),
        service = service.name,
        method = method.name,
        is_check = service.name == CHECKS || method.name == "FetchFacts",
        is_repeatable = takes_request_id || is_idempotent,
    );
    if takes_request_id {
        text.push_str("fn request_id(&mut self) -> Option<&mut String> { Some(&mut self.request_id) }");
    }
    if bearers.contains(&method.input) {
        text.push_str("fn carried_secrets<'a>(&'a self, found: &mut Vec<&'a str>) { self.secrets(found); }");
    }
    writeln!(text, "}}")?;
    Ok(text)
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn snake(name: &str) -> String {
    let mut text = String::new();
    for character in name.chars() {
        if character.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(character.to_lowercase());
    }
    text
}

fn camel(name: &str) -> String {
    name.split('_')
        .flat_map(|word| {
            let mut characters = word.chars();
            characters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(characters)
        })
        .collect()
}
