//! Blocks, when QEMU translates them: which callbacks they need; and these callbacks.

use std::ffi::c_void;

use skerry_abi::layout::USER_END;

use crate::block::{Block, Use, analyse};
use crate::decode::Event;

use super::checks::{translate_checked, translate_masked, translate_steps};
use super::functions::{
    ExecuteCallback, Functions, Handle, Id, NO_REGISTERS, READ_AND_WRITE, READS_REGISTERS,
};
use super::{State, state};

/// QEMU translates a block: says which callbacks its instructions need.
pub(super) extern "C" fn translate(_: Id, tb: Handle) {
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

/// The bits of an instruction.
pub(super) fn word(functions: &Functions, instruction: Handle) -> u32 {
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

pub(super) fn intern(state: &State, block: Block) -> &'static Block {
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

pub(super) extern "C" fn resolve(cpu: u32, _: *mut c_void) {
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
