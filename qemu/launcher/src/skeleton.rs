//! `new policy NAME`: a policy that compiles, in its own file and in the list.

use std::path::Path;

use clap::Subcommand;

use crate::error::{Error, Result};
use crate::session;

/// What `new` can make.
#[derive(Debug, Subcommand)]
pub enum New {
    /// A placement policy: a file to begin with, entered in the list (docs/write-a-policy.md)
    Policy {
        /// Its name: small letters, digits and hyphens
        name: String,
    },
}

const FOLDER: &str = "app-pager/policy/src/shipped";
const LIST: &str = "app-pager/policy/src/shipped.rs";

/// Makes it.
///
/// # Errors
/// [`Error::Usage`] for a name that cannot be used or is, [`Error::Host`] for files.
pub fn make(new: &New) -> Result<()> {
    let New::Policy { name } = new;
    let root = session::workspace()?;
    let path = policy(&root, name)?;
    println!(
        "{path}: first touch, to begin with; docs/write-a-policy.md says how to go on\ntry it: cargo run -- replay serial-init --policy {name}"
    );
    Ok(())
}

fn policy(root: &Path, name: &str) -> Result<String> {
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !name.ends_with('-')
        && !name.contains("--");
    if !good || name.len() > 40 {
        return Err(Error::Usage(format!(
            "{name} is no name for a policy: small letters, digits and hyphens"
        )));
    }
    let module = name.replace('-', "_");
    let file = format!("{FOLDER}/{module}.rs");
    let list = std::fs::read_to_string(root.join(LIST)).map_err(Error::host(format!("reading {LIST}")))?;
    if root.join(&file).exists() || list.contains(&format!("\"{name}\"")) {
        return Err(Error::Usage(format!("there is a policy {name} already")));
    }
    let list = entered(&list, name, &module)
        .ok_or_else(|| Error::Host(LIST.into(), "it does not look as `new policy` expects".into()))?;
    std::fs::write(root.join(&file), source(name)).map_err(Error::host(format!("writing {file}")))?;
    std::fs::write(root.join(LIST), list).map_err(Error::host(format!("writing {LIST}")))?;
    Ok(file)
}

/// The type of a policy.
fn type_name(name: &str) -> String {
    let capital = |word: &str| {
        word.chars().take(1).map(|c| c.to_ascii_uppercase()).chain(word.chars().skip(1)).collect()
    };
    name.split('-').map(|word| -> String { capital(word) }).collect()
}

fn source(name: &str) -> String {
    let kind = type_name(name);
    format!(
        "//! `{name}`: says here in one sentence what it does, and for which programs that is good.

use crate::event::Fault;
use crate::nodes::Node;
use crate::policy::Policy;
use crate::world::World;

/// The policy: every pager has one.
#[derive(Clone, Copy, Debug, Default)]
pub struct {kind};

impl Policy for {kind} {{
    /// What it remembers of a page.
    type Record = ();

    fn place(&mut self, _: &World<'_>, fault: &Fault) -> Node {{
        fault.node
    }}
}}
"
    )
}

/// The list with another policy in it.
fn entered(list: &str, name: &str, module: &str) -> Option<String> {
    let kind = type_name(name);
    let before = |list: &str, mark: &str, line: String| {
        let at = list.find(mark)?;
        Some(format!("{}{line}{}", &list[..at], &list[at..]))
    };
    let list = before(list, "pub mod adaptive;", format!("pub mod {module};\n"))?;
    let list = before(
        &list,
        "    entry(\"adaptive\"",
        format!("    entry(\"{name}\", \"\", \"a new policy\", Fresh),\n"),
    )?;
    before(
        &list,
        "    Adaptive \"adaptive\" =>",
        format!("    {kind} \"{name}\" => {module}::{kind} {{ plain }},\n"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join(FOLDER)).unwrap();
        let list = session::workspace().unwrap().join(LIST);
        std::fs::copy(list, folder.path().join(LIST)).unwrap();
        folder
    }

    #[test]
    fn a_policy_is_made_and_entered_once() {
        let root = copy();
        let file = policy(root.path(), "second-look").unwrap();
        let source = std::fs::read_to_string(root.path().join(file)).unwrap();
        assert!(source.contains("pub struct SecondLook;") && source.contains("//! `second-look`"));
        let list = std::fs::read_to_string(root.path().join(LIST)).unwrap();
        for line in ["pub mod second_look;", "entry(\"second-look\"", "second_look::SecondLook"] {
            assert_eq!(list.matches(line).count(), 1, "{line}");
        }
        assert!(policy(root.path(), "second-look").unwrap_err().to_string().contains("already"));
        assert!(policy(root.path(), "adaptive").unwrap_err().to_string().contains("already"));
    }

    #[test]
    fn names_that_make_no_file_are_refused() {
        let root = copy();
        for name in ["", "Big", "../up", "a b", "-a", "a-", "a--b", "1st"] {
            assert_eq!(policy(root.path(), name).unwrap_err().exit_code(), 2, "{name}");
        }
    }
}
