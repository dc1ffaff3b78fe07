//! What the instrument needs of the emulator.

/// The emulator, or something that stands in for it.
pub trait Host {
    /// General register `number` (31: zero) of a CPU, as of the last point at which the emulator had written it back.
    fn register(&mut self, cpu: u16, number: u8) -> u64;
    /// A word of physical memory.
    fn read(&mut self, physical: u64) -> u64;
    /// Writes a word of physical memory, behind the guest's back.
    fn write(&mut self, physical: u64, word: u64);
    /// The physical address that the emulator itself would use.
    fn translate(&mut self, cpu: u16, address: u64) -> Option<u64>;
    /// Ends a CPU's turn after this block.
    fn yield_turn(&mut self, cpu: u16);
    /// Translates everything again, with all callbacks: the first marker was seen.
    fn start(&mut self);
}
