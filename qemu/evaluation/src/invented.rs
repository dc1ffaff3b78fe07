//! Invented records, for tests: every cell takes a time that follows from its parameters.

use serde_json::{Value, json};

use crate::cell::{Cell, Work};
use crate::metric::measured;
use crate::results::Record;

fn record(fields: Value) -> Record {
    match fields {
        Value::Object(fields) => fields,
        _ => Record::new(),
    }
}

/// What a run of the cell might have given, with `elapsed` cycles.
pub fn records(bench: &str, cell: &Cell, elapsed: u64) -> Vec<Record> {
    let (case, of) = (cell.name(), measured(&cell.work));
    if let Work::Latency { sizes } = &cell.work {
        let load = |home: u64| {
            let case = &case;
            sizes.iter().map(move |bytes| {
                record(json!({"bench": bench, "case": case, "of": of, "metric": "cycles-per-load",
                    "value": 100 + 40 * home, "unit": "cycles", "kind": "modelled", "home": home, "bytes": bytes}))
            })
        };
        return load(0).chain(load(1)).collect();
    }
    let one = |metric: &str, value: u64, cpu: Option<u64>| {
        let mut fields =
            record(json!({"bench": bench, "case": case, "of": of, "metric": metric, "value": value,
            "unit": "cycles", "kind": "modelled", "system": cell.system.name}));
        if let Some(cpu) = cpu {
            fields.insert("cpu".into(), json!(cpu));
        }
        fields
    };
    let mut all = vec![one("elapsed", elapsed, None)];
    if let Work::ArrayWalk { variant: crate::cell::Variant::Touched, .. } = &cell.work {
        let mut floor = one("elapsed", elapsed, None);
        floor.insert("of".into(), json!("array-walk.floor"));
        all.push(floor);
    }
    for cpu in [0, 1] {
        all.push(one("cycles", elapsed - 10 * cpu, Some(cpu)));
        all.push(one("instructions", elapsed / 2, Some(cpu)));
        all.push(one("wait_dram_local", elapsed - 10 * cpu - elapsed / 2, Some(cpu)));
        all.push(one("idle", 0, Some(cpu)));
        all.push(one("dram_remote", 7 + cpu, Some(cpu)));
        all.push(one("transfers_remote", 1, Some(cpu)));
    }
    all
}

/// All cells of the quick set.
pub fn all() -> Vec<Record> {
    let setup = crate::setup::Setup { quick: true, paper: false };
    let mut all = Vec::new();
    for bench in &crate::benches::BENCHES {
        for (index, cell) in bench.cells(setup).iter().enumerate() {
            all.extend(records(bench.name, cell, 100_000 + 1_000 * index as u64));
        }
    }
    for record in &mut all {
        for (key, value) in
            [("set", json!(setup.name())), ("revision", json!("0123456789abcdef")), ("dirty", json!(false))]
        {
            record.insert(key.into(), value);
        }
    }
    all
}
