//! Where numbers come from: the fields that every record carries.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::process;

/// What all records of one launcher have in common. No date: equal inputs give equal records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Commit of the sources; `unknown` outside of a repository.
    pub revision: String,
    /// Whether the sources differ from that commit.
    pub dirty: bool,
    /// Version of QEMU.
    pub qemu: String,
    /// The compiler of the guest.
    pub guest_compiler: String,
    /// The launcher's arguments.
    pub command: String,
}

impl Provenance {
    /// Collects it.
    pub fn collect(root: &Path, qemu: &str, guest_compiler: &str) -> Self {
        let git = |words: &[&str]| process::output(process::command("git").args(words).current_dir(root));
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        Self {
            revision: git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".into()),
            dirty: git(&["status", "--porcelain"]).is_none_or(|changes| !changes.is_empty()),
            qemu: qemu.to_owned(),
            guest_compiler: guest_compiler.to_owned(),
            command: ["skerry".to_owned()].into_iter().chain(arguments).collect::<Vec<_>>().join(" "),
        }
    }

    /// As fields of a record.
    pub fn fields(&self) -> Map<String, Value> {
        let Self { revision, dirty, qemu, guest_compiler, command } = self;
        let fields = json!({
            "revision": revision, "dirty": dirty, "qemu": qemu, "guest_compiler": guest_compiler, "command": command,
        });
        match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }
}
