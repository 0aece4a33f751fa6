//! The `dynamic` guest as a filter: the first word of a record's value says what becomes of it.
//!
//! Words: `drop`, `reject WHY`, `trap`, `loop`, and the answers `short`, `long`, `wild-rejection`. Anything else is kept.

use self::__millrace::exports::millrace::plugin::{filter, lifecycle};
use millrace::bindings::types::{Batch, Rejection};
use std::hint::black_box;

struct Dynamic;

impl lifecycle::Guest for Dynamic {
    fn configure(_: lifecycle::Setup) -> Result<(), String> {
        Ok(())
    }
}

impl filter::Guest for Dynamic {
    fn filter(batch: Batch) -> filter::Selection {
        let view = millrace::Batch::new(&batch.data, &batch.index);
        let mut answer = filter::Selection { keep: vec![0; view.len().div_ceil(8)], rejected: Vec::new() };
        let mut grow = 0_isize;
        for (i, record) in view.records().enumerate() {
            let text = record.text().unwrap_or_default();
            let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
            match word {
                "drop" => continue,
                "reject" => answer.rejected.push(Rejection { index: i as u32, reason: rest.to_owned() }),
                "wild-rejection" => answer.rejected.push(Rejection { index: u32::MAX, reason: rest.to_owned() }),
                "trap" => std::process::abort(),
                "loop" => loop {
                    grow = black_box(grow);
                },
                "short" => grow = -1,
                "long" => grow = 1,
                _ => {}
            }
            answer.keep[i / 8] |= 1 << (i % 8);
        }
        answer.keep.resize((answer.keep.len() as isize + grow) as usize, 0xff);
        answer
    }
}

millrace::generate!(filter);

__millrace::export!(Dynamic with_types_in self::__millrace);
