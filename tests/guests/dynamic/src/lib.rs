//! A guest that obeys its records: the first word of a record's value says what becomes of it, or of the whole call. What
//! an honest plugin cannot do through the SDK is written into the answer by hand.
//!
//! Words for a record: `keep`, `drop`, `upper TEXT`, `append TEXT`, `null`, `reject WHY`, `rekey KEY`, `rehead NAME=VALUE`,
//! `retime MS`, `context NAME`, `count` (how many batches this instance has seen). Anything else is kept.
//! Words that end or spoil the call: `trap`, `panic WHY`, `loop`, `overflow`, `allocate MIB`, `hold MIB`, `log LINES`,
//! `wasi`, and the answers `wrong-count`, `wrong-verdict`, `wild-span`, `few-spans`, `many-spans`, `double`, `huge MIB`,
//! `bad-headers`, `many-rejections`, `wild-rejection`.

use self::__millrace::exports::millrace::plugin::{lifecycle, transform};
use millrace::bindings::types::{Batch, Rejection};
use millrace::{Change, Changes, Level, NewRecord, Record};
use std::cell::RefCell;
use std::hint::black_box;

#[derive(Default)]
struct State {
    context: Vec<(String, String)>,
    batches: u64,
    held: Vec<Vec<u8>>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

struct Dynamic;

impl lifecycle::Guest for Dynamic {
    fn configure(setup: lifecycle::Setup) -> Result<(), String> {
        std::panic::set_hook(Box::new(|info| millrace::log(Level::Error, &info.to_string())));
        if setup.config.contains("\"refuse\"") {
            return Err("the config says so".to_owned());
        }
        if setup.config.contains("\"loop\"") {
            spin();
        }
        if setup.config.contains("\"panic\"") {
            panic!("configure panics");
        }
        STATE.with_borrow_mut(|state| state.context = setup.context);
        Ok(())
    }
}

impl transform::Guest for Dynamic {
    fn transform(batch: Batch) -> transform::Changes {
        STATE.with_borrow_mut(|state| state.batches += 1);
        let view = millrace::Batch::new(&batch.data, &batch.index);
        let mut changes = Changes::new(view.len());
        let mut spoilt = None;
        for record in view.records() {
            let text = record.text().unwrap_or_default();
            let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
            end(word, rest);
            spoilt = spoilt.or_else(|| spoil(word, rest, view.len()));
            changes.push(obey(&record, word, rest));
        }
        spoilt.unwrap_or_else(|| {
            let answer = changes.into_answer();
            transform::Changes {
                verdicts: answer.verdicts,
                data: answer.data,
                spans: answer.spans,
                rejected: answer.rejected,
            }
        })
    }
}

/// What becomes of one record.
fn obey(record: &Record<'_>, word: &str, rest: &str) -> Change {
    match word {
        "drop" => Change::Drop,
        "upper" => Change::Value(record.text().unwrap_or_default().to_uppercase().into_bytes()),
        "append" => Change::Value([record.value().unwrap_or_default(), b"!"].concat()),
        "null" => Change::Record(NewRecord::new().value(None)),
        "reject" => Change::Reject(rest.to_owned()),
        "rekey" => Change::Record(NewRecord::new().key(Some(rest.as_bytes().to_vec()))),
        "rehead" => {
            let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
            Change::Record(NewRecord::new().header(name, Some(value.as_bytes())).header(name, None))
        }
        "retime" => Change::Record(NewRecord::new().timestamp(rest.parse().unwrap_or(0))),
        "context" => Change::Value(STATE.with_borrow(|state| {
            let found = state.context.iter().find(|(name, _)| name == rest);
            found.map_or_else(Vec::new, |(_, value)| value.clone().into_bytes())
        })),
        "count" => Change::Value(STATE.with_borrow(|state| state.batches.to_string().into_bytes())),
        _ => Change::Keep,
    }
}

/// Words after which the call does not go on, or not as it should.
fn end(word: &str, rest: &str) {
    match word {
        "trap" => std::process::abort(),
        "panic" => panic!("{rest}"),
        "loop" => spin(),
        "overflow" => {
            black_box(deep(black_box(1)));
        }
        "allocate" => drop(black_box(mebibytes(rest))),
        "hold" => STATE.with_borrow_mut(|state| state.held.push(mebibytes(rest))),
        "log" => (0..rest.parse().unwrap_or(1)).for_each(|i| millrace::log(Level::Info, &format!("line {i}"))),
        "wasi" => println!("nobody hears this"),
        _ => {}
    }
}

/// Answers that no honest plugin gives.
fn spoil(word: &str, rest: &str, records: usize) -> Option<transform::Changes> {
    let mut answer =
        transform::Changes { verdicts: vec![0; records], data: Vec::new(), spans: Vec::new(), rejected: Vec::new() };
    let span = |verdict: u8, data: &[u8], spans: &[u32]| {
        let mut verdicts = vec![0; records];
        verdicts[0] = verdict;
        transform::Changes { verdicts, data: data.to_vec(), spans: spans.to_vec(), rejected: Vec::new() }
    };
    match word {
        "wrong-count" => answer.verdicts.push(0),
        "double" => answer.verdicts = vec![0; 2 * records],
        "wrong-verdict" => answer.verdicts[0] = 77,
        "wild-span" => return Some(span(3, b"abc", &[2, 2])),
        "few-spans" => return Some(span(4, b"abc", &[0, 1])),
        "many-spans" => return Some(span(3, b"abc", &[0, 1, 0])),
        "bad-headers" => return Some(span(4, b"\x40ab", &[0, u32::MAX - 1, 0, u32::MAX - 1, 0, 3, 0, 0x8000_0000])),
        "huge" => return Some(span(3, &mebibytes(rest), &[0, rest.parse::<u32>().unwrap_or(1) << 20])),
        "wild-rejection" => answer.rejected.push(Rejection { index: records as u32, reason: "outside".to_owned() }),
        "many-rejections" => {
            answer.rejected = (0..1 << 16).map(|_| Rejection { index: 0, reason: "again".repeat(10) }).collect();
        }
        _ => return None,
    }
    Some(answer)
}

fn mebibytes(count: &str) -> Vec<u8> {
    black_box(vec![b'x'; count.parse::<usize>().unwrap_or(1) << 20])
}

fn spin() {
    let mut i = 0_u64;
    loop {
        i = black_box(i.wrapping_add(1));
    }
}

#[expect(unconditional_recursion, reason = "that is the point")]
fn deep(i: u64) -> u64 {
    let here = black_box([i]);
    deep(here[0] + 1) + here[0]
}

millrace::generate!(transform);

__millrace::export!(Dynamic with_types_in self::__millrace);
