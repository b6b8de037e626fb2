//! Random operations against a `BTreeMap`.

use super::testing::{add, bus, delete, get, set, small};
use super::wish::Wish;
use std::collections::BTreeMap;

/// Plant: leaving out `slot := new` in FINISH's last loop brings deleted keys back.
#[test]
fn a_bus_is_a_map() {
    let (core, _yard) = bus(small(4 << 20));
    let mut model: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for step in 0..30_000 {
        let key = format!("key{}", random(700));
        match random(20) {
            0..=9 => {
                let value =
                    vec![step as u8; random(if step % 50 == 0 { 9000 } else { 200 }) as usize];
                core.write_one(0, &set(&key, &value)).unwrap();
                model.insert(key, value);
            }
            10..=15 => {
                let done = core.write_one(1, &delete(&key)).unwrap();
                assert_eq!(done.count == 1, model.remove(&key).is_some(), "step {step}");
            }
            16..=18 => {
                let names: Vec<String> =
                    (0..random(40)).map(|_| format!("key{}", random(700))).collect();
                let value = vec![1; 30];
                let wishes: Vec<Wish> = names
                    .iter()
                    .enumerate()
                    .map(|(i, n)| if i % 3 == 0 { delete(n) } else { set(n, &value) })
                    .collect();
                core.write_batch(2, &wishes).unwrap();
                for (i, n) in names.iter().enumerate() {
                    if i % 3 == 0 {
                        model.remove(n);
                    } else {
                        model.insert(n.clone(), value.clone());
                    }
                }
            }
            _ if random(40) == 0 => {
                core.clear(3, 1, b"").unwrap();
                model.clear();
            }
            _ => {
                let name = format!("count{}", random(5));
                let done = core.write_one(0, &add(&name, 3)).unwrap();
                let value = model.entry(name).or_insert_with(|| vec![0; 8]);
                let next = i64::from_le_bytes(value[..].try_into().unwrap()) + 3;
                assert_eq!(done.value, next);
                *value = next.to_le_bytes().to_vec();
            }
        }
        if step % 1000 == 0 {
            let report = core.check();
            assert!(report.is_clean(), "step {step}: {report:?}");
            assert_eq!(report.entries, model.len() as u64);
            for (key, value) in &model {
                assert_eq!(get(&core, key).as_ref(), Some(value), "{key} at step {step}");
            }
            assert_eq!(core.count_entries().unwrap(), model.len() as u64);
        }
    }
}
