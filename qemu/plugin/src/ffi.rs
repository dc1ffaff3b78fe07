//! QEMU's side of the plugin: the only `unsafe`, and nothing that decides anything.
//!
//! One library serves QEMU 7.2 (plugin interface 1) to 10 (interface 4). Debian packages no header, and the interface refuses a plugin
//! that was built for another version; so every function is looked up by name when the library is loaded, before QEMU
//! looks at `qemu_plugin_version`, which is then set to what this QEMU speaks.
//!
//! A few functions besides the interface are used, all of which Debian's binaries of both versions export: the emulator's own translation
//! (`cpu_get_phys_page_attrs_debug`; what the interface says is wrong on 7.2 with a memory backend per node), reading physical memory and
//! general registers, ending a turn (`cpu_exit`), and `current_cpu` (the interface names the wrong CPU on 10 when instructions are counted).
//!
//! Here is what is loaded and kept; [`translate`] has the blocks and their callbacks, [`checks`] those of runs that charge nothing, [`mod@qemu`] what the
//! instrument may ask of QEMU, [`functions`] its functions.
//!
//! **Threads.** The plugin works with one thread for all CPUs (`-accel tcg,thread=single`) and ends the process if it sees a second one.
#![expect(unsafe_code, reason = "the interface of a C program")]

use std::cell::UnsafeCell;
use std::collections::HashSet;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use skerry_cost_model::Config;

use crate::block::Block;
use crate::instrument::Instrument;
use crate::report::Report;
use crate::vcpu::Vcpu;
use skerry_replay::format;

use functions::{Functions, Handle, Id, find};
use qemu::Qemu;
use translate::translate;

mod checks;
mod functions;
mod qemu;
mod translate;

/// What QEMU reads to see whether it can load this library; set by [`detect`].
#[unsafe(no_mangle)]
pub static qemu_plugin_version: AtomicC = AtomicC(UnsafeCell::new(1));

/// An `int` that is written once, before anybody reads it.
#[repr(transparent)]
#[derive(Debug)]
pub struct AtomicC(UnsafeCell<c_int>);

// SAFETY: written by `detect` alone, which the dynamic linker runs before `dlopen` returns to QEMU; only read afterwards.
unsafe impl Sync for AtomicC {}

#[used]
#[unsafe(link_section = ".init_array")]
static DETECT: extern "C" fn() = detect;

/// Finds out which interface this QEMU speaks, by functions that came with each.
extern "C" fn detect() {
    let has = |name: &CStr| !find(name).is_null();
    // 9.0 to 10.0 accept all from 2 on.
    let version = match (has(c"qemu_plugin_read_memory_vaddr"), has(c"qemu_plugin_num_vcpus")) {
        (true, _) => 4,
        (false, true) => 2,
        (false, false) => 1,
    };
    // SAFETY: the dynamic linker runs this before anything of this library can be called.
    unsafe { *qemu_plugin_version.0.get() = version };
}

/// A CPU's state. Aligned so that two CPUs never share a line of the host.
#[repr(align(128))]
struct Cell(UnsafeCell<Vcpu>);

// SAFETY: callbacks come on one thread ([`State::check_thread`]) and do not nest; the report is made when that thread has
// stopped or is itself ending the process.
unsafe impl Sync for Cell {}

/// What cannot change any more once the plugin is installed.
struct State {
    functions: Functions,
    instrument: Instrument,
    cpus: Box<[Cell]>,
    /// Blocks by contents: translating again does not use memory again.
    blocks: Mutex<HashSet<&'static Block>>,
    id: Id,
    out: String,
    version: c_int,
}

static STATE: OnceLock<State> = OnceLock::new();
/// The thread that executes the guest, as the address of its `current_cpu`.
static CURRENT: AtomicUsize = AtomicUsize::new(0);
/// The CPU found last, and its number.
static LAST: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Ends the process: QEMU has no way to be told, and going on would give wrong numbers.
fn fail(why: &str) -> ! {
    eprintln!("skerry-plugin: {why}");
    std::process::abort();
}

fn state() -> &'static State {
    STATE.get().unwrap_or_else(|| fail("called before it was installed"))
}

impl State {
    /// Callbacks come on one thread only, or never again.
    fn check_thread(&self) {
        // A thread-local variable of QEMU: each thread that looks it up gets its own.
        let mine = find(c"current_cpu").addr();
        let first = CURRENT.compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed);
        if mine == 0 || first.is_err_and(|other| other != mine) {
            fail("it needs one thread for all CPUs: -accel tcg,thread=single");
        }
    }

    /// The number of the CPU that executes. With instruction counting, QEMU 10 tells callbacks the CPU that *translated* the block.
    #[inline]
    fn number(&self, told: u32) -> usize {
        if self.version == 1 {
            return told as usize;
        }
        let place = std::ptr::with_exposed_provenance::<Handle>(CURRENT.load(Ordering::Relaxed));
        // SAFETY: `check_thread` found the variable of the executing thread before any callback could be registered.
        let current = unsafe { *place }.addr() as u64;
        if LAST[0].load(Ordering::Relaxed) == current {
            LAST[1].load(Ordering::Relaxed) as usize
        } else {
            self.look_up(current)
        }
    }

    /// The number of a CPU, which is remembered until another one has its turn.
    #[cold]
    #[inline(never)]
    fn look_up(&self, current: u64) -> usize {
        let is = |&number: &usize| {
            // SAFETY: QEMU's list of CPUs is complete before the guest starts.
            let cpu = unsafe { (self.functions.qemu_get_cpu)(number as c_int) };
            cpu.addr() as u64 == current
        };
        let number = (0..self.cpus.len()).find(is).unwrap_or_else(|| fail("a CPU that was not configured"));
        LAST[0].store(current, Ordering::Relaxed);
        LAST[1].store(number as u64, Ordering::Relaxed);
        number
    }

    #[inline]
    fn with(&self, told: u32, work: impl FnOnce(&Instrument, &mut Vcpu, &mut Qemu)) {
        let Some(cell) = self.cpus.get(self.number(told)) else { fail("a CPU that was not configured") };
        // SAFETY: see `Cell`; `work` calls nothing of QEMU that calls back.
        let cpu = unsafe { &mut *cell.0.get() };
        work(&self.instrument, cpu, &mut Qemu(self));
    }
}

/// Asks for the callbacks of a plugin.
extern "C" fn register(id: Id) {
    let functions = &state().functions;
    // SAFETY: QEMU knows `id`, and the functions have the types it wants.
    unsafe {
        (functions.qemu_plugin_register_vcpu_tb_trans_cb)(id, translate);
        (functions.qemu_plugin_register_atexit_cb)(id, at_exit, std::ptr::null_mut());
    }
}

extern "C" fn at_exit(_: Id, _: *mut c_void) {
    let state = state();
    // SAFETY: see `Cell`: nobody executes the guest any more.
    let cpus = state.cpus.iter().map(|cell| unsafe { &mut *cell.0.get() });
    let mut report = Report::new(&state.instrument, cpus, state.version as u32);
    let (trace, pages) = state.instrument.recorded();
    let write = |ending: &str, bytes: &[u8]| {
        let path = format!("{}{ending}", state.out);
        if let Err(why) = std::fs::write(&path, bytes) {
            eprintln!("skerry-plugin: writing {path}: {why}");
        }
    };
    if let Some(trace) = trace {
        let mut bytes = Vec::new();
        let came = trace.and_then(|(trace, lines)| {
            format::write(&trace, &mut bytes).map_err(|error| error.to_string()).map(|()| lines)
        });
        report.note_recording(came);
        write(".trace", &bytes);
    }
    if let Some(pages) = pages {
        write(".pages", pages.as_bytes());
    }
    match serde_json::to_vec(&report) {
        Ok(text) => write("", &text),
        Err(why) => eprintln!("skerry-plugin: the report: {why}"),
    }
}

/// QEMU loads the plugin. Arguments: `config=FILE` and `out=FILE`.
///
/// # Safety
/// QEMU passes `count` strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: Id,
    _info: *const c_void,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    // SAFETY: the caller's promise.
    let arguments = (0..count as usize).map(|i| unsafe { CStr::from_ptr(*arguments.add(i)) });
    let arguments: Vec<String> = arguments.map(|text| text.to_string_lossy().into_owned()).collect();
    match install(id, &arguments) {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("skerry-plugin: {why}");
            -1
        }
    }
}

fn install(id: Id, arguments: &[String]) -> Result<(), String> {
    let argument = |name: &str| {
        let found = arguments.iter().find_map(|argument| argument.strip_prefix(name));
        found.ok_or_else(|| format!("the argument {name}FILE is missing"))
    };
    let (path, out) = (argument("config=")?, argument("out=")?);
    let text = std::fs::read(path).map_err(|error| format!("reading {path}: {error}"))?;
    let config: Config = serde_json::from_slice(&text).map_err(|error| format!("{path}: {error}"))?;
    let (instrument, cpus) = Instrument::new(config)?;
    // SAFETY: written once, before QEMU looked at it.
    let version = unsafe { *qemu_plugin_version.0.get() };
    let state = State {
        functions: Functions::find()?,
        instrument,
        cpus: cpus.into_iter().map(|cpu| Cell(UnsafeCell::new(cpu))).collect(),
        blocks: Mutex::default(),
        id,
        out: out.to_owned(),
        version,
    };
    STATE.set(state).map_err(|_| "it is loaded twice".to_owned())?;
    register(id);
    Ok(())
}
