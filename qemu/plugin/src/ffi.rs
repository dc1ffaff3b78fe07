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
//! **Threads.** The plugin works with one thread for all CPUs (`-accel tcg,thread=single`) and ends the process if it sees a second one.
#![expect(unsafe_code, reason = "the interface of a C program")]

use std::cell::UnsafeCell;
use std::collections::HashSet;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use skerry_abi::layout::USER_END;
use skerry_cost_model::Config;

use crate::block::{Block, Use, analyse};
use crate::coherence::Spot;
use crate::decode::{Event, is_atomic};
use crate::host::Host;
use crate::instrument::Instrument;
use crate::masked::Piece;
use crate::report::Report;
use crate::vcpu::Vcpu;
use skerry_replay::format;

use functions::{
    ByteArray, ExecuteCallback, Functions, Handle, Id, NO_REGISTERS, READ_AND_WRITE, READS_REGISTERS, find,
};

mod functions;

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

/// QEMU, for the instrument.
struct Qemu<'a>(&'a State);

impl Qemu<'_> {
    fn cpu(&self, number: u16) -> Handle {
        // SAFETY: QEMU looks the number up in its list and gives null for one that is not there.
        let cpu = unsafe { (self.0.functions.qemu_get_cpu)(number.into()) };
        if cpu.is_null() { fail("a CPU that QEMU does not have") } else { cpu }
    }
}

impl Host for Qemu<'_> {
    fn register(&mut self, cpu: u16, number: u8) -> u64 {
        static BUFFER: AtomicUsize = AtomicUsize::new(0);
        let functions = &self.0.functions;
        if BUFFER.load(Ordering::Relaxed) == 0 {
            // SAFETY: it takes nothing and gives a new array, which is kept for good.
            BUFFER.store(unsafe { (functions.g_byte_array_new)() }.expose_provenance(), Ordering::Relaxed);
        }
        let buffer: Handle = std::ptr::with_exposed_provenance_mut(BUFFER.load(Ordering::Relaxed));
        // SAFETY: the array was made by GLib and is used by this thread only; the CPU is QEMU's; register numbers below 31 are
        // general ones, of which QEMU appends eight bytes. The data are read before anything else can change the array.
        unsafe {
            (functions.g_byte_array_set_size)(buffer, 0);
            let length = (functions.aarch64_cpu_gdb_read_register)(self.cpu(cpu), buffer, number.into());
            let array = &*buffer.cast::<ByteArray>();
            if length != 8 || array.length != 8 {
                fail("QEMU does not give a general register");
            }
            array.data.cast::<u64>().read_unaligned()
        }
    }

    fn read(&mut self, physical: u64) -> u64 {
        let mut word = 0u64;
        // SAFETY: QEMU writes eight bytes into `word`. The caller asks for RAM only, so no device notices.
        unsafe { (self.0.functions.cpu_physical_memory_rw)(physical, (&raw mut word).cast(), 8, false) };
        word
    }

    fn write(&mut self, physical: u64, word: u64) {
        let mut word = word;
        // SAFETY: QEMU reads eight bytes out of `word`. The caller names RAM only, so no device notices.
        unsafe { (self.0.functions.cpu_physical_memory_rw)(physical, (&raw mut word).cast(), 8, true) };
    }

    fn translate(&mut self, cpu: u16, address: u64) -> Option<u64> {
        // Attributes that nobody looks at: 4 bytes in 7.2, 8 in 10.0.
        let mut attributes = [0u64; 8];
        let page = address & !0xfff;
        // SAFETY: the CPU is QEMU's and is the one that executes, or is stopped; the attributes have room enough.
        let found = unsafe {
            (self.0.functions.cpu_get_phys_page_attrs_debug)(
                self.cpu(cpu),
                page,
                attributes.as_mut_ptr().cast(),
            )
        };
        (found != u64::MAX).then_some(found & !0xfff | address & 0xfff)
    }

    fn yield_turn(&mut self, cpu: u16) {
        // SAFETY: it sets flags that the CPU looks at after this block.
        unsafe { (self.0.functions.cpu_exit)(self.cpu(cpu)) };
    }

    fn start(&mut self) {
        // SAFETY: allowed in callbacks. It drops all callbacks and translations at the next safe point, and then calls `register`.
        unsafe { (self.0.functions.qemu_plugin_reset)(self.0.id, register) };
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

/// QEMU translates a block: says which callbacks its instructions need.
extern "C" fn translate(_: Id, tb: Handle) {
    let state = state();
    state.check_thread();
    let on = state.instrument.is_on();
    let functions = &state.functions;
    // SAFETY: `tb` and what it gives are QEMU's, and valid until this function returns.
    let instructions: Vec<Handle> = unsafe {
        (0..(functions.qemu_plugin_tb_n_insns)(tb))
            .map(|i| (functions.qemu_plugin_tb_get_insn)(tb, i))
            .collect()
    };
    if state.instrument.config().sanitize {
        return translate_checked(state, tb, &instructions);
    }
    if state.instrument.config().masked {
        return translate_masked(state, tb, &instructions);
    }
    if state.instrument.config().path.is_some() {
        return translate_steps(state, &instructions);
    }
    let words: Vec<u32> = instructions.iter().map(|&instruction| word(functions, instruction)).collect();
    let (mut block, plans) = analyse(&words);
    // SAFETY: as above.
    block.user = unsafe { (functions.qemu_plugin_tb_vaddr)(tb) } < USER_END;
    let block = intern(state, block);
    let execute = |handle, callback, flags, data| {
        // SAFETY: as above; `data` is a number, or points to a block that is never freed.
        unsafe { (functions.qemu_plugin_register_vcpu_insn_exec_cb)(handle, callback, flags, data) };
    };
    let number = |word: u64| std::ptr::without_provenance_mut::<c_void>(word as usize);
    // SAFETY: as above.
    unsafe {
        let callback: ExecuteCallback = if on { begin } else { begin_early };
        let data = std::ptr::from_ref(block).cast_mut().cast();
        (functions.qemu_plugin_register_vcpu_tb_exec_cb)(tb, callback, NO_REGISTERS, data);
    }
    let mut resolves = false;
    let records = state.instrument.config().trace || state.instrument.config().pages;
    for ((&handle, plan), &word) in instructions.iter().zip(&plans).zip(&words) {
        let wanted = |event: &Event| match event {
            Event::Table { .. } | Event::Marker(_) => true,
            Event::Thread { .. } => records,
            _ => on,
        };
        let watched = plan.event.filter(wanted);
        match watched {
            Some(_) => execute(handle, event, READS_REGISTERS, number(word.into())),
            None if resolves => execute(handle, resolve, READS_REGISTERS, number(0)),
            None => {}
        }
        resolves = watched.is_some_and(|event| event.operand().is_some());
        if let Some(how) = plan.memory.filter(|_| on) {
            // SAFETY: as above.
            unsafe {
                let data = number(how.pack());
                (functions.qemu_plugin_register_vcpu_mem_cb)(
                    handle,
                    access,
                    NO_REGISTERS,
                    READ_AND_WRITE,
                    data,
                );
            }
        }
    }
}

/// A block whose code is checked.
struct CheckedBlock {
    block: &'static Block,
    start: u64,
    bytes: u64,
}

/// An instruction with an event, and where it is.
struct CheckedEvent {
    word: u32,
    pc: u64,
}

/// The same for the measurement of how long interrupts are off.
fn translate_masked(state: &State, tb: Handle, instructions: &[Handle]) {
    let functions = &state.functions;
    let last = instructions.last().map_or(0, |&instruction| word(functions, instruction));
    // SAFETY: `tb` is QEMU's, and valid until `translate` returns; what `kept` gives is never freed.
    unsafe {
        let pc = (functions.qemu_plugin_tb_vaddr)(tb);
        let piece = kept(Piece { pc, instructions: instructions.len() as u32, last });
        (functions.qemu_plugin_register_vcpu_tb_exec_cb)(tb, begin_masked, NO_REGISTERS, piece);
    }
}

extern "C" fn begin_masked(cpu: u32, piece: *mut c_void) {
    // SAFETY: `translate_masked` passed one that is never freed and never changed.
    let piece: &Piece = unsafe { &*piece.cast() };
    state().with(cpu, |_, cpu, _| cpu.masked.block(piece));
}

/// An instruction of a path, perhaps.
struct Step {
    pc: u64,
    word: u32,
}

/// The same for the ledger of a path.
fn translate_steps(state: &State, instructions: &[Handle]) {
    let functions = &state.functions;
    for &instruction in instructions {
        let word = word(functions, instruction);
        // SAFETY: the instruction is QEMU's, and valid until `translate` returns; what `kept` gives is never freed.
        unsafe {
            let step = kept(Step { pc: (functions.qemu_plugin_insn_vaddr)(instruction), word });
            (functions.qemu_plugin_register_vcpu_insn_exec_cb)(instruction, step_begins, NO_REGISTERS, step);
        }
    }
}

extern "C" fn step_begins(cpu: u32, step: *mut c_void) {
    // SAFETY: `translate_steps` passed one that is never freed and never changed.
    let step: &Step = unsafe { &*step.cast() };
    state().with(cpu, |instrument, cpu, _| instrument.step(cpu, step.pc, step.word));
}

/// What callbacks are given for as long as the process lives.
fn kept<T>(value: T) -> *mut c_void {
    std::ptr::from_ref(Box::leak(Box::new(value))).cast_mut().cast()
}

/// The same for the checker of coherence, which wants to know where everything is. Its runs are short: what callbacks are given is never freed.
fn translate_checked(state: &State, tb: Handle, instructions: &[Handle]) {
    let functions = &state.functions;
    let words: Vec<u32> = instructions.iter().map(|&instruction| word(functions, instruction)).collect();
    let (block, plans) = analyse(&words);
    // SAFETY: `tb` and its instructions are QEMU's, and valid until `translate` returns; what `kept` gives is never freed.
    unsafe {
        let start = (functions.qemu_plugin_tb_vaddr)(tb);
        let whole = CheckedBlock { block: intern(state, block), start, bytes: words.len() as u64 * 4 };
        (functions.qemu_plugin_register_vcpu_tb_exec_cb)(tb, begin_checked, NO_REGISTERS, kept(whole));
        let mut resolves = false;
        for ((&handle, plan), &word) in instructions.iter().zip(&plans).zip(&words) {
            let pc = (functions.qemu_plugin_insn_vaddr)(handle);
            let callback = |callback, data| {
                (functions.qemu_plugin_register_vcpu_insn_exec_cb)(handle, callback, READS_REGISTERS, data);
            };
            match plan.event {
                Some(_) => callback(event_checked, kept(CheckedEvent { word, pc })),
                None if resolves => callback(resolve, std::ptr::null_mut()),
                None => {}
            }
            resolves = plan.event.is_some_and(|event| event.operand().is_some());
            if let Some(how) = plan.memory {
                let spot = kept(Spot { pc, how, atomic: is_atomic(word) });
                (functions.qemu_plugin_register_vcpu_mem_cb)(
                    handle,
                    access_checked,
                    NO_REGISTERS,
                    READ_AND_WRITE,
                    spot,
                );
            }
        }
    }
}

extern "C" fn begin_checked(cpu: u32, block: *mut c_void) {
    // SAFETY: `translate_checked` passed one that is never freed and never changed.
    let checked: &'static CheckedBlock = unsafe { &*block.cast() };
    let code = (checked.start, checked.bytes);
    state().with(cpu, |instrument, cpu, host| instrument.checked_block(cpu, host, checked.block, code));
}

extern "C" fn event_checked(cpu: u32, event: *mut c_void) {
    // SAFETY: as above.
    let CheckedEvent { word, pc } = unsafe { &*event.cast() };
    if let Some(event) = crate::decode::event(*word) {
        state().with(cpu, |instrument, cpu, host| instrument.event(cpu, host, event, *pc));
    }
}

extern "C" fn access_checked(cpu: u32, info: u32, address: u64, spot: *mut c_void) {
    // SAFETY: as above; `info` is what QEMU gave to the callback.
    let (spot, size) =
        unsafe { (&*spot.cast::<Spot>(), 1 << (state().functions.qemu_plugin_mem_size_shift)(info)) };
    state().with(cpu, |instrument, cpu, host| instrument.checked_access(cpu, host, (address, size), spot));
}

/// The bits of an instruction.
fn word(functions: &Functions, instruction: Handle) -> u32 {
    let mut word = 0u32;
    // SAFETY: from interface 3 on it copies four bytes into `word` and gives their number; before, it takes only the first argument
    // (others are ignored in this calling convention) and gives a pointer to four bytes that live as long as the block.
    unsafe {
        match (functions.qemu_plugin_insn_data)(instruction, &raw mut word, 4) {
            4 => word,
            pointer => std::ptr::with_exposed_provenance::<u32>(pointer).read_unaligned(),
        }
    }
}

fn intern(state: &State, block: Block) -> &'static Block {
    let mut blocks = state.blocks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(known) = blocks.get(&block) {
        return known;
    }
    let kept: &'static Block = Box::leak(Box::new(block));
    blocks.insert(kept);
    kept
}

extern "C" fn begin_early(cpu: u32, _: *mut c_void) {
    state().with(cpu, |instrument, cpu, host| instrument.early_block(cpu, host));
}

extern "C" fn begin(cpu: u32, block: *mut c_void) {
    // SAFETY: `translate` passed a block that is never freed and never changed.
    let block: &'static Block = unsafe { &*block.cast() };
    state().with(cpu, |instrument, cpu, host| instrument.block(cpu, host, block));
}

extern "C" fn event(cpu: u32, word: *mut c_void) {
    if let Some(event) = crate::decode::event(word.addr() as u32) {
        state().with(cpu, |instrument, cpu, host| instrument.event(cpu, host, event, 0));
    }
}

extern "C" fn resolve(cpu: u32, _: *mut c_void) {
    state().with(cpu, |instrument, cpu, host| instrument.resolve(cpu, host));
}

/// No access is longer than 16 bytes, so only near the end of a line its size is interesting.
const SURELY_ONE_LINE: u64 = 48;

extern "C" fn access(cpu: u32, info: u32, address: u64, how: *mut c_void) {
    let mut quick = false;
    if address & 63 <= SURELY_ONE_LINE {
        let how = Use::unpack(how.addr() as u64);
        state().with(cpu, |_, cpu, _| quick = cpu.quick(address, 1, how));
    }
    // What follows is a call in last place, so the usual way saves no registers.
    if !quick {
        access_slowly(cpu, info, address, how);
    }
}

#[inline(never)]
extern "C" fn access_slowly(cpu: u32, info: u32, address: u64, how: *mut c_void) {
    let state = state();
    // SAFETY: `info` is what QEMU gave to the callback.
    let size = 1 << unsafe { (state.functions.qemu_plugin_mem_size_shift)(info) };
    let how = Use::unpack(how.addr() as u64);
    state.with(cpu, |instrument, cpu, host| instrument.access(cpu, host, (address, size), how));
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
