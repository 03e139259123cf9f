//! What the protos of a service declare, read from a descriptor set.

use std::collections::HashMap;

use prost::Message as _;

use crate::Error;
use crate::v1::Access;

/// What an RPC demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Scope(String),
    AnyCredential,
    /// The proto says nothing that a guard understands.
    Undeclared,
}

/// The rules of all RPCs, by path.
#[derive(Clone, Debug, Default)]
pub(super) struct Declared(HashMap<String, Rule>);

impl Declared {
    /// Reads descriptor sets, as `protoc --descriptor_set_out`, `buf build` and tonic's
    /// `file_descriptor_set_path` write them.
    pub(super) fn read(&mut self, descriptor_set: &[u8]) -> Result<(), Error> {
        let set = Set::decode(descriptor_set).map_err(|error| {
            Error::invalid(format!("the descriptor set of a guard cannot be read: {error}"))
        })?;
        for file in set.files {
            for service in file.services {
                for method in service.methods {
                    let dot = if file.package.is_empty() { "" } else { "." };
                    let path = format!("/{}{dot}{}/{}", file.package, service.name, method.name);
                    self.0.insert(path, rule_of(method.options.unwrap_or_default()));
                }
            }
        }
        Ok(())
    }

    pub(super) fn rule(&self, path: &str) -> &Rule {
        self.0.get(path).unwrap_or(&Rule::Undeclared)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Rule)> {
        self.0.iter().map(|(path, rule)| (path.as_str(), rule))
    }
}

/// Where the options say two things, the stricter counts.
fn rule_of(options: Options) -> Rule {
    if !options.required_scope.is_empty() {
        return Rule::Scope(options.required_scope);
    }
    if options.access == Access::AnyCredential as i32 { Rule::AnyCredential } else { Rule::Undeclared }
}

// The parts of descriptors that matter here. The extensions of keyfence/v1/options.proto are fields
// of them, which the general types of prost leave out.

#[derive(Clone, PartialEq, prost::Message)]
struct Set {
    #[prost(message, repeated, tag = "1")]
    files: Vec<File>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Service>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<Method>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Method {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "4")]
    options: Option<Options>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Options {
    #[prost(string, tag = "51701")]
    required_scope: String,
    #[prost(int32, tag = "51702")]
    access: i32,
}
