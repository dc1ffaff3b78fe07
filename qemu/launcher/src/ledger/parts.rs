//! On which part of a path an instruction is booked.
//!
//! Looked at from the innermost inlined function outwards, the first of these decides:
//! 1. a comment `// part: name` at or above the source line, in the same function;
//! 2. the table below, by source file and function.
//!
//! In assembly it is the nearest label of the form `part_name_number`, and else the table, by label. What the standard library adds
//! to a function is part of that function.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::symbols::{Frame, Symbols, plain};

/// (end of the file's path, function or "" for all, part).
const FUNCTIONS: [(&str, &str, &str); 86] = [
    ("arch/aarch64/dispatch.rs", "resume", "switch"),
    ("arch/aarch64/dispatch.rs", "switch", "switch"),
    ("arch/aarch64/dispatch.rs", "load_space", "switch"),
    ("arch/aarch64/dispatch.rs", "", "entry"),
    ("arch/aarch64/fastpath.rs", "switch", "switch"),
    ("arch/aarch64/fastpath.rs", "", "entry"),
    ("arch/aarch64/lock.rs", "", "lock"),
    ("arch/aarch64/timer.rs", "", "timer"),
    ("arch/aarch64/fp.rs", "", "floating point"),
    ("arch/aarch64/gic.rs", "", "interrupt"),
    ("arch/aarch64/measure.rs", "", "count"),
    ("arch/aarch64/words.rs", "", "copy and clear"),
    ("arch/aarch64/machine.rs", "kick", "interrupt"),
    ("arch/aarch64/machine.rs", "zero_words", "copy and clear"),
    ("arch/aarch64/machine.rs", "copy_words", "copy and clear"),
    ("arch/aarch64/machine.rs", "begin_slice", "timer"),
    ("arch/aarch64/machine.rs", "", "TLB and barriers"),
    ("arch/aarch64/shootdown.rs", "", "TLB and barriers"),
    ("kernel/src/shootdown.rs", "", "TLB and barriers"),
    ("kernel/src/counters.rs", "", "count"),
    ("kernel/src/sched.rs", "", "schedule"),
    ("kernel/src/runqueue.rs", "", "schedule"),
    ("kernel/src/deadline.rs", "", "schedule"),
    ("kernel/src/queue.rs", "", "schedule"),
    ("kernel/src/ipc.rs", "check_permission", "permission"),
    ("kernel/src/ipc.rs", "is_granted", "permission"),
    ("kernel/src/ipc.rs", "", "message"),
    ("kernel/src/kernel.rs", "find", "lookup"),
    ("kernel/src/kernel.rs", "find_space", "lookup"),
    ("kernel/src/kernel.rs", "handle", "entry"),
    ("kernel/src/thread.rs", "", "message"),
    ("kernel/src/notify.rs", "", "message"),
    ("kernel/src/ring.rs", "", "ring"),
    ("kernel/src/remote.rs", "", "ring"),
    ("kernel/src/remote/", "", "ring"),
    ("kernel/src/syscall.rs", "", "decode"),
    ("kernel/src/control.rs", "", "decode"),
    ("kernel/src/lifecycle.rs", "", "thread"),
    ("kernel/src/birth.rs", "", "thread"),
    ("kernel/src/space.rs", "", "thread"),
    ("mapping-db/src/fast.rs", "map_page", "map"),
    ("mapping-db/src/fast.rs", "", "unmap"),
    ("mapping-db/src/map.rs", "", "map"),
    ("mapping-db/src/unmap.rs", "", "unmap"),
    ("mapping-db/src/walk.rs", "", "walk"),
    ("mapping-db/src/arena.rs", "quick_leaf", "walk"),
    ("mapping-db/src/arena.rs", "quick_page", "walk"),
    ("mapping-db/src/arena.rs", "quick_cell", "walk"),
    ("mapping-db/src/arena.rs", "recent_page", "walk"),
    ("kernel/src/migrate.rs", "", "migrate"),
    ("kernel/src/whereabouts.rs", "", "migrate"),
    ("kernel/src/interrupt.rs", "", "interrupt"),
    ("kernel/src/chores.rs", "", "schedule"),
    ("mapping-db/src/descriptor.rs", "", "page-table entry"),
    ("mapping-db/src/", "", "mapping tree"),
    ("rt/src/memory.rs", "", "copy and clear"),
    ("rt/src/spin.rs", "", "pager: lock"),
    ("rt/src/", "", "pager: stub"),
    ("ipc/src/", "", "pager: stub"),
    ("app-pager/src/board.rs", "", "pager: region"),
    ("app-pager/src/pool.rs", "", "pager: pool"),
    ("app-pager/src/page.rs", "", "pager: tables"),
    ("app-pager/protocols/src/", "", "pager: protocol"),
    ("app-pager/src/space.rs", "count", "pager: count"),
    ("app-pager/src/space.rs", "", "pager: tables"),
    ("app-pager/src/guest/state.rs", "", "pager: task"),
    ("app-pager/src/guest/place.rs", "", "pager: region"),
    ("app-pager/src/letter.rs", "", "pager: letter"),
    ("app-pager/src/batch.rs", "", "pager: leader"),
    ("app-pager/src/maintain.rs", "", "pager: leader"),
    ("app-pager/src/roll.rs", "", "pager: threads"),
    ("app-pager/src/guest/office.rs", "", "pager: letter"),
    ("app-pager/src/guest/lead.rs", "", "pager: leader"),
    ("app-pager/src/guest/alone.rs", "", "pager: leader"),
    ("app-pager/src/guest/jobs.rs", "", "pager: leader"),
    ("app-pager/src/guest/changes.rs", "", "pager: leader"),
    ("app-pager/src/guest/stock.rs", "", "pager: leader"),
    ("app-pager/src/guest/take.rs", "", "pager: leader"),
    ("app-pager/src/guest/unmapper.rs", "", "pager: worker"),
    ("app-pager/src/guest/serve.rs", "", "pager: server"),
    ("app-pager/src/guest/work.rs", "", "pager: server"),
    ("app-pager/src/guest/moves.rs", "", "pager: threads"),
    ("app-pager/src/guest/task.rs", "", "pager: threads"),
    ("app-pager/src/guest/", "", "pager: fault"),
    ("app-pager/src/", "", "pager: other"),
    ("syscall-server/src/", "", "system-call server"),
];

/// (beginning of a label, part).
const LABELS: [(&str, &str); 10] = [
    ("resume_thread", "exit"),
    ("exception_vectors", "entry"),
    ("user_", "entry"),
    ("ipc_general", "entry"),
    ("ipc_no_slot", "entry"),
    ("ipc_check", "lookup"),
    ("ipc_fast", "lookup"),
    ("fp_", "floating point"),
    ("mem", "copy and clear"),
    ("__", "copy and clear"),
];

/// How labels in assembly begin that name a part.
pub const PREFIX: &str = "part_";
/// Whether a label in assembly names a branch, not a part.
fn names_branch(label: &str) -> bool {
    label.contains("_check_") || label.contains("_case_")
}
/// Instructions of user programs.
pub const USER: &str = "user";
/// What no rule knows.
pub const OTHER: &str = "other";

/// The rules, with the sources for their comments.
pub struct Parts {
    root: PathBuf,
    sources: RefCell<HashMap<String, Vec<String>>>,
}

impl Parts {
    /// For sources below `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), sources: RefCell::default() }
    }

    /// The part of a kernel instruction, and the function that it is shown under.
    pub fn of(&self, kernel: &Symbols, address: u64) -> (String, String) {
        // The compiler gives some instructions no source line: they are for what those before them are for.
        let near = (0..4).map(|back| self.exactly(kernel, address - 4 * back));
        let known = near.into_iter().find(|(part, _)| part != OTHER);
        known.unwrap_or_else(|| self.exactly(kernel, address))
    }

    fn exactly(&self, kernel: &Symbols, address: u64) -> (String, String) {
        let frames = kernel.frames(address);
        for (depth, frame) in frames.iter().enumerate() {
            if let Some(part) = self.comment(frame).or_else(|| by_function(frame).map(str::to_owned)) {
                // A closure is shown as the function that it is in.
                let named = frames[depth..].iter().find(|outer| !outer.function.contains("{closure"));
                return (part, named.unwrap_or(frame).function.clone());
            }
        }
        // Not a function of ours: the library's, or a label.
        match (frames.last(), kernel.label(address, |name| !name.starts_with(PREFIX) && names_branch(name))) {
            (Some(outermost), _) => {
                let part = by_label(&outermost.function).unwrap_or(OTHER);
                (part.to_owned(), outermost.function.clone())
            }
            (None, Some(label)) => match label.strip_prefix(PREFIX).and_then(|rest| rest.rsplit_once('_')) {
                Some((part, _)) => (part.replace('_', " "), "assembly".to_owned()),
                None => {
                    let path = addr2line::demangle_auto(label.into(), None);
                    let part = by_label(label).or_else(|| by_module(&path)).unwrap_or(OTHER);
                    (part.to_owned(), plain(&path))
                }
            },
            (None, None) => (OTHER.to_owned(), "?".to_owned()),
        }
    }

    /// The nearest comment `// part: name` above, without leaving the function.
    fn comment(&self, frame: &Frame) -> Option<String> {
        let at = frame.file.rfind("platform/")?;
        let file = &frame.file[at..];
        let mut sources = self.sources.borrow_mut();
        let lines = sources.entry(file.to_owned()).or_insert_with(|| {
            // A file that cannot be read has no comments.
            let text = std::fs::read_to_string(self.root.join(file)).unwrap_or_default();
            text.lines().map(|line| line.trim().to_owned()).collect()
        });
        let above = lines.get(..(frame.line as usize).min(lines.len()))?.iter().rev();
        above.take_while(|line| !is_function(line)).find_map(|line| part_comment(line))
    }
}

fn is_function(line: &str) -> bool {
    let mut words = line.split([' ', '(']).filter(|word| !word.is_empty());
    words.find(|word| !matches!(*word, "pub" | "crate)" | "super)" | "const" | "unsafe" | "extern" | "\"C\""))
        == Some("fn")
}

fn part_comment(line: &str) -> Option<String> {
    line.strip_prefix("// part: ").map(|part| part.trim_end_matches('.').to_owned())
}

fn by_function(frame: &Frame) -> Option<&'static str> {
    let name = frame.function.rsplit("::").next().unwrap_or("");
    let matches = |rule: &&(&str, &str, &str)| {
        (frame.file.ends_with(rule.0) || rule.0.ends_with('/') && frame.file.contains(rule.0))
            && (rule.1.is_empty() || rule.1 == name)
    };
    FUNCTIONS.iter().find(matches).map(|rule| rule.2)
}

/// For a function without debug information: its module names its file.
fn by_module(path: &str) -> Option<&'static str> {
    let is_module = |file: &str| {
        let module = file.rsplit('/').next().and_then(|name| name.strip_suffix(".rs"));
        module.is_some_and(|module| path.contains(&format!("::{module}::")))
    };
    FUNCTIONS.iter().find(|(file, name, _)| name.is_empty() && is_module(file)).map(|rule| rule.2)
}

fn by_label(label: &str) -> Option<&'static str> {
    LABELS.iter().find(|(start, _)| label.starts_with(start)).map(|rule| rule.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(file: &str, function: &str, line: u32) -> Frame {
        Frame { function: function.into(), file: file.into(), line }
    }

    #[test]
    fn functions_are_booked_by_file_and_name() {
        let part = |file, function| by_function(&frame(file, function, 1));
        assert_eq!(part("/x/platform/kernel/src/ipc.rs", "ipc::is_granted"), Some("permission"));
        assert_eq!(part("/x/platform/kernel/src/ipc.rs", "ipc::deliver"), Some("message"));
        assert_eq!(part("/x/platform/kernel/src/remote/send.rs", "send"), Some("ring"));
        assert_eq!(part("/x/library/core/src/option.rs", "Option::map"), None);
        assert_eq!(by_label("ipc_fast"), Some("lookup"));
        assert_eq!(by_module("<skerry_kernel::queue::Queue>::remove"), Some("schedule"));
        assert_eq!(by_module("core::option::unwrap_failed"), None);
    }

    #[test]
    fn a_comment_decides_inside_of_its_function() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("platform")).unwrap();
        let text = "fn a() {\n  // part: permission\n  x();\n}\npub(crate) fn b() {\n  y();\n  // part: walk.\n  z();\n}\n";
        std::fs::write(folder.path().join("platform/f.rs"), text).unwrap();
        let parts = Parts::new(folder.path());
        let part = |line| parts.comment(&frame("/build/platform/f.rs", "", line));
        assert_eq!(part(3).as_deref(), Some("permission"));
        assert_eq!(part(6), None);
        assert_eq!(part(8).as_deref(), Some("walk"));
        assert_eq!(parts.comment(&frame("/library/core/mod.rs", "", 3)), None);
    }
}
