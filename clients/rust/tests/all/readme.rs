//! The README's examples, word for word, in a project of their own, as a user's would be.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use keyfence::testing::{FakeServer, TOKEN, keyspace};

const FRAGMENT: &str = "
#[allow(unused)]
async fn fragment_NUMBER(client: keyfence::Client, descriptors: &[u8], list_servers: axum::routing::MethodRouter)
    -> Result<(), Box<dyn std::error::Error>> {
BODY    Ok(())
}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_of_the_readme_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let blocks = |language: &str| -> Vec<String> {
        let fence = format!("```{language}\n");
        readme.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
    };
    let (programs, fragments): (Vec<_>, Vec<_>) =
        blocks("rust").into_iter().partition(|one| one.contains("fn main"));
    assert_eq!(programs.len(), 1, "the README has one program");
    assert!(fragments.len() >= 3, "the README has examples of guards and of tests");
    // The other examples are parts of programs: they have to compile.
    let mut program = programs[0].clone();
    for (number, fragment) in fragments.iter().enumerate() {
        let fragment = FRAGMENT.replace("NUMBER", &number.to_string()).replace("BODY", fragment);
        program.push_str(&fragment);
    }
    let mut manifest =
        "[package]\nname = \"quickstart\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n".to_owned();
    manifest.push_str(&blocks("toml").concat());
    write!(manifest, "\n[patch.crates-io]\nkeyfence = {{ path = {root:?} }}\n").unwrap();
    manifest.push_str("\n[profile.dev]\ndebug = 0\n\n[workspace]\n");

    let project = env::temp_dir().join(format!("keyfence-readme-{}", std::process::id()));
    fs::create_dir_all(project.join("src")).unwrap();
    fs::write(project.join("src/main.rs"), program).unwrap();
    fs::write(project.join("Cargo.toml"), manifest).unwrap();
    // The versions that are here already, in a folder where they are compiled already.
    let _ = fs::copy(root.join("Cargo.lock"), project.join("Cargo.lock"));
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let server = FakeServer::start([keyspace("demo", &["vps:read", "vps:write"])]);
    let mut run = Command::new(env!("CARGO"));
    run.args(["run", "--quiet"])
        .current_dir(&project)
        .env("CARGO_TARGET_DIR", target)
        .env("KEYFENCE_TARGET", server.target())
        .env("KEYFENCE_TOKEN", TOKEN);
    let said = tokio::task::spawn_blocking(move || run.output()).await.unwrap().unwrap();
    let out = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{out}{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(out, "before: true Ok\nafter: false KeyRevoked\n");
    fs::remove_dir_all(project).unwrap();
}
