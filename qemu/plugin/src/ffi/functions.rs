//! QEMU's functions, looked up by name when the plugin is installed: no header is packaged, and one library has to fit several versions.

use std::ffi::{CStr, c_char, c_int, c_void};

pub(super) type Id = u64;
pub(super) type Handle = *mut c_void;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// The address of a function or variable of the process; null if there is none.
pub(super) fn find(name: &CStr) -> *mut c_void {
    // SAFETY: `name` ends with a zero; a null handle searches the program and its libraries.
    unsafe { dlsym(std::ptr::null_mut(), name.as_ptr()) }
}

pub(super) type TranslateCallback = extern "C" fn(Id, Handle);
pub(super) type ExecuteCallback = extern "C" fn(u32, *mut c_void);
pub(super) type MemoryCallback = extern "C" fn(u32, u32, u64, *mut c_void);
pub(super) type IdCallback = extern "C" fn(Id);
pub(super) type ExitCallback = extern "C" fn(Id, *mut c_void);

macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// QEMU's functions, found by name.
        #[derive(Debug)]
        pub(super) struct Functions {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }
        impl Functions {
            pub(super) fn find() -> Result<Self, String> {
                Ok(Self {
                    $($name: {
                        let name = concat!(stringify!($name), "\0");
                        let pointer = CStr::from_bytes_with_nul(name.as_bytes()).map_or(std::ptr::null_mut(), find);
                        if pointer.is_null() {
                            return Err(format!("this QEMU has no {}", stringify!($name)));
                        }
                        // SAFETY: the function of this name has this type in all versions from 7.2 to 10.0.
                        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>(pointer) }
                    },)*
                })
            }
        }
    };
}

functions! {
    qemu_plugin_register_vcpu_tb_trans_cb: fn(Id, TranslateCallback);
    qemu_plugin_register_vcpu_tb_exec_cb: fn(Handle, ExecuteCallback, c_int, *mut c_void);
    qemu_plugin_register_vcpu_insn_exec_cb: fn(Handle, ExecuteCallback, c_int, *mut c_void);
    qemu_plugin_register_vcpu_mem_cb: fn(Handle, MemoryCallback, c_int, c_int, *mut c_void);
    qemu_plugin_register_atexit_cb: fn(Id, ExitCallback, *mut c_void);
    qemu_plugin_reset: fn(Id, IdCallback);
    qemu_plugin_tb_n_insns: fn(Handle) -> usize;
    qemu_plugin_tb_get_insn: fn(Handle, usize) -> Handle;
    qemu_plugin_tb_vaddr: fn(Handle) -> u64;
    qemu_plugin_insn_vaddr: fn(Handle) -> u64;
    qemu_plugin_insn_data: fn(Handle, *mut u32, usize) -> usize;
    qemu_plugin_mem_size_shift: fn(u32) -> u32;
    cpu_get_phys_page_attrs_debug: fn(Handle, u64, *mut c_void) -> u64;
    cpu_physical_memory_rw: fn(u64, *mut c_void, u64, bool);
    aarch64_cpu_gdb_read_register: fn(Handle, Handle, c_int) -> c_int;
    qemu_get_cpu: fn(c_int) -> Handle;
    cpu_exit: fn(Handle);
    g_byte_array_new: fn() -> Handle;
    g_byte_array_set_size: fn(Handle, u32) -> Handle;
}

/// `QEMU_PLUGIN_CB_R_REGS`: versions that honour it write registers back before the callback.
pub(super) const READS_REGISTERS: c_int = 1;
pub(super) const NO_REGISTERS: c_int = 0;
/// `QEMU_PLUGIN_MEM_RW`.
pub(super) const READ_AND_WRITE: c_int = 3;

/// The first two fields of GLib's `GByteArray`, which are public.
#[repr(C)]
pub(super) struct ByteArray {
    pub(super) data: *const u8,
    pub(super) length: u32,
}
