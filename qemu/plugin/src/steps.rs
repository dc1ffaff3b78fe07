//! Which instructions a path of the guest consists of: those that its CPUs execute between two marks, each with how often.
//!
//! QEMU announces an instruction before it executes it. One whose access faults is announced again after the fault, and counted once, as
//! the emulator counts: it is taken back when the CPU comes to the exception's vector instead.

use std::collections::BTreeMap;

use serde::Serialize;
use skerry_cost_model::Path;

/// Size of a table of exception vectors, and of each of its entries.
const VECTORS: u64 = 0x800;
const VECTOR: u64 = 0x80;

/// What was executed on one way from the first mark to the last, without the marks: CPU, address, how often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Way(pub Vec<(u16, u64, u64)>);

/// The ways so far.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    now: Option<BTreeMap<(u16, u64), u64>>,
    /// By CPU: what it executed last, if that may fault.
    last: BTreeMap<u16, u64>,
    ways: Vec<Way>,
}

impl Steps {
    /// A CPU is about to execute the instruction `word` at `pc`.
    pub fn execute(&mut self, path: &Path, cpu: u16, pc: u64, word: u32) {
        if pc == path.first {
            self.now = Some(BTreeMap::new());
            self.last.clear();
            return;
        }
        let Some(now) = &mut self.now else { return };
        if pc == path.last {
            let way = now.iter().map(|(&(cpu, pc), &times)| (cpu, pc, times)).collect();
            self.ways.push(Way(way));
            self.now = None;
            return;
        }
        if let Some(before) = self.last.remove(&cpu)
            && is_synchronous(path.vectors, pc)
            && let Some(times) = now.get_mut(&(cpu, before))
        {
            *times -= 1;
        }
        *now.entry((cpu, pc)).or_default() += 1;
        if accesses_memory(word) {
            self.last.insert(cpu, pc);
        }
    }

    /// All ways.
    pub fn ways(&self) -> &[Way] {
        &self.ways
    }
}

/// Whether an exception of an instruction begins here. (Each mode has four vectors: synchronous, interrupt, fast interrupt, system error.)
fn is_synchronous(vectors: u64, pc: u64) -> bool {
    (vectors..vectors + VECTORS).contains(&pc) && (pc - vectors).is_multiple_of(4 * VECTOR)
}

/// Loads, stores and maintenance of caches by address, of general registers: those of others trap before they access anything, if they
/// are not allowed, and count.
fn accesses_memory(word: u32) -> bool {
    let load_or_store = word >> 25 & 0b101 == 0b100 && word >> 26 & 1 == 0;
    // SYS with CRn = 7, to which all of them belong.
    let maintenance = word & 0xfff8_f000 == 0xd508_7000;
    load_or_store || maintenance
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: u64 = 0xffff_0000_0000_b000;
    const PATH: Path = Path { first: 0x100, last: 0x200, vectors: TABLE };
    const STR: u32 = 0xf900_0020;
    const SVC: u32 = 0xd400_0001;
    const FMOV: u32 = 0x1e60_4020;
    const DC_CVAC: u32 = 0xd50b_7a20;
    const NOP: u32 = 0xd503_201f;

    fn ways(executed: &[(u16, u64, u32)]) -> Vec<Vec<(u16, u64, u64)>> {
        let mut steps = Steps::default();
        for &(cpu, pc, word) in executed {
            steps.execute(&PATH, cpu, pc, word);
        }
        steps
            .ways()
            .iter()
            .map(|way| way.0.iter().copied().filter(|&(.., times)| times > 0).collect())
            .collect()
    }

    #[test]
    fn what_lies_between_the_marks_counts_on_every_cpu() {
        let executed = [
            (0, 0x80, NOP),
            (0, 0x100, NOP),
            (0, 0x104, NOP),
            (1, 0x104, NOP),
            (0, 0x104, NOP),
            (0, 0x200, NOP),
        ];
        let expected = [(0, 0x104, 2), (1, 0x104, 1)];
        assert_eq!(ways(&executed), [expected]);
        // What does not come to the end is begun anew.
        let twice = [&executed[..3], &executed[..], &executed[1..]].concat();
        assert_eq!(ways(&twice), [expected, expected]);
    }

    #[test]
    fn what_faults_counts_when_it_is_executed() {
        for (word, times) in [(STR, 1), (DC_CVAC, 1), (SVC, 2), (FMOV, 2)] {
            let executed = [
                (0, 0x100, NOP),
                (0, 0x104, word),
                (1, 0x300, NOP),
                (0, TABLE + 0x400, NOP),
                (0, 0x104, word),
                (0, 0x200, NOP),
            ];
            let [way] = &ways(&executed)[..] else { panic!() };
            assert_eq!(way[0], (0, 0x104, times), "{word:x}");
        }
    }

    #[test]
    fn what_is_interrupted_has_been_executed() {
        let executed =
            [(0, 0x100, NOP), (0, 0x104, STR), (0, TABLE + 0x480, NOP), (0, 0x108, NOP), (0, 0x200, NOP)];
        let [way] = &ways(&executed)[..] else { panic!() };
        assert_eq!(way[0], (0, 0x104, 1));
    }
}
