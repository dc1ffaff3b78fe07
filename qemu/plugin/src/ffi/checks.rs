//! Blocks of runs that charge nothing: those of the checker of coherence, of the measurement of how long interrupts are off, and of ledgers.

use std::ffi::c_void;

use crate::block::Block;
use crate::block::analyse;
use crate::coherence::Spot;
use crate::decode::is_atomic;
use crate::masked::Piece;

use super::functions::{Handle, NO_REGISTERS, READ_AND_WRITE, READS_REGISTERS};
use super::translate::{intern, resolve, word};
use super::{State, state};

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

/// An instruction of a path, perhaps.
struct Step {
    pc: u64,
    word: u32,
}

/// The same for the measurement of how long interrupts are off.
pub(super) fn translate_masked(state: &State, tb: Handle, instructions: &[Handle]) {
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

/// The same for the ledger of a path.
pub(super) fn translate_steps(state: &State, instructions: &[Handle]) {
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
pub(super) fn translate_checked(state: &State, tb: Handle, instructions: &[Handle]) {
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
