//! What the plugin found out, as JSON.

use serde::Serialize;
use serde_json::{Map, Value, json};
use skerry_cost_model::time::to_cycles;
use skerry_cost_model::{Counters, Time};

use crate::instrument::{Health, Instrument};
use crate::phases::Sample;
use crate::steps::Way;
use crate::vcpu::Vcpu;

/// Layout of the file.
pub const VERSION: u32 = 1;

/// The file.
#[derive(Debug, Serialize)]
pub struct Report {
    /// [`VERSION`].
    version: u32,
    /// Level of QEMU's plugin interface.
    api: u32,
    /// The model of the cores.
    core: skerry_cost_model::CoreModel,
    /// Cycles a CPU may be ahead.
    quantum: u64,
    /// Turns of CPUs.
    turns: u64,
    /// Turns that the quantum ended.
    forced: u64,
    /// Lines that changed hands between CPUs.
    contended: u64,
    /// What should be zero.
    health: Value,
    /// The phases.
    phases: Vec<Value>,
    /// What the checker of coherence has found.
    #[serde(skip_serializing_if = "Option::is_none")]
    coherence: Option<Value>,
    /// How long each CPU kept interrupts off.
    #[serde(skip_serializing_if = "Option::is_none")]
    masked: Option<Value>,
    /// What was recorded besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<Value>,
    /// What was executed on a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    ways: Option<Vec<Way>>,
}

/// Counters with their times in cycles.
fn counters(counters: &Counters) -> Map<String, Value> {
    let is_time = |name: &str| name.starts_with("wait_") || name == "idle";
    let mut map = Map::new();
    map.insert("l1_misses".into(), counters.l1_misses().into());
    map.extend(counters.fields().map(|(name, value)| {
        let value = if is_time(name) { to_cycles(value) } else { value };
        (name.to_owned(), value.into())
    }));
    map
}

impl Report {
    /// Of a run that has ended.
    pub fn new<'a>(instrument: &Instrument, cpus: impl Iterator<Item = &'a mut Vcpu>, api: u32) -> Self {
        let cpus: Vec<&Vcpu> = cpus
            .map(|cpu| {
                instrument.finish(cpu);
                &*cpu
            })
            .collect();
        let (health, contended, turns, forced) = instrument.state();
        let (spans, unpaired) = instrument.log().spans();
        let config = instrument.config();
        let phases = spans.iter().map(|(&id, span)| {
            let cpu = |cpu: &&Vcpu| {
                let Sample { clock, counters: sums } = cpu.phases.get(id);
                let number = cpu.core.cpu();
                let mut map = Map::new();
                map.insert("cpu".into(), number.into());
                map.insert("node".into(), config.topology.cpus[usize::from(number)].into());
                map.insert("cycles".into(), busy(clock, &sums).into());
                map.extend(counters(&sums));
                Value::Object(map)
            };
            json!({
                "phase": id,
                "times": span.times,
                "elapsed": to_cycles(span.elapsed),
                "cpus": cpus.iter().map(cpu).collect::<Vec<_>>(),
            })
        });
        let masked = config.masked.then(|| {
            let cpu = |cpu: &&Vcpu| {
                let (longest, stretches) = cpu.masked.longest();
                json!({"cpu": cpu.core.cpu(), "stretches": stretches, "longest": longest})
            };
            cpus.iter().map(cpu).collect()
        });
        Self {
            version: VERSION,
            api,
            core: config.core,
            quantum: config.quantum,
            turns,
            forced,
            contended,
            health: health_fields(&health, unpaired, instrument.lost()),
            phases: phases.collect(),
            coherence: instrument.coherence(),
            masked,
            recorded: None,
            ways: instrument.ways(),
        }
    }
}

impl Report {
    /// Says what came of the recording: local and remote lines in it, or why there is none.
    pub fn note_recording(&mut self, came: Result<[u64; 2], String>) {
        self.recorded = Some(match came {
            Ok([local, remote]) => json!({"local": local, "remote": remote}),
            Err(why) => json!({"failed": why}),
        });
    }
}

/// Cycles in which the CPU did not sleep.
fn busy(clock: Time, counters: &Counters) -> u64 {
    to_cycles(clock.saturating_sub(counters.idle))
}

fn health_fields(health: &Health, unpaired: u64, lost: u64) -> Value {
    let errors = json!({
        "translation_failures": health.translation_failures,
        "translation_differs": health.translation_differs,
        "unknown_tables": health.unknown_tables,
        "unknown_requests": health.unknown_requests,
        "unpaired_markers": unpaired,
        "lost_events": lost,
    });
    json!({
        "errors": errors,
        "faulted_maintenance": health.faulted_maintenance,
        "device_accesses": health.devices,
    })
}
