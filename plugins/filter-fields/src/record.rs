//! A condition on a record: one walk over its JSON, in which each test is made where its field stands.

use crate::condition::{Operand, Value};
use crate::config::{Filter, Invalid, Node};
use crate::scan::{self, Kind, Scanner};
use millrace::Record;

impl Filter {
    /// Whether the record is kept.
    ///
    /// # Errors
    /// For a value that is not JSON, where the condition asks for fields and the config says so.
    pub fn keeps(&self, record: &Record<'_>) -> Result<bool, scan::Invalid> {
        let mut results = vec![false; self.tests.len()];
        for (test, result) in self.tests.iter().zip(&mut results) {
            *result = match &test.operand {
                Operand::Field(_) => false,
                Operand::Key => record.key().is_some_and(|key| test.check.holds(Value::Bytes(key))),
                Operand::Value => record.value().is_some_and(|value| test.check.holds(Value::Bytes(value))),
                Operand::Timestamp => test.check.holds(Value::Number(record.timestamp())),
                Operand::Header(name) => record
                    .headers()
                    .filter(|header| header.name == name)
                    .any(|header| test.check.holds(header.value.map_or(Value::Null, Value::Bytes))),
            };
        }
        if let (false, Some(text)) = (self.fields.children.is_empty(), record.value()) {
            match self.look(text, &mut results) {
                Ok(()) => {}
                Err(invalid) if self.invalid == Invalid::Reject => return Err(invalid),
                Err(_) => return Ok(self.invalid == Invalid::Keep),
            }
        }
        Ok(self.condition.holds(&results))
    }

    fn look(&self, text: &[u8], results: &mut [bool]) -> Result<(), scan::Invalid> {
        let mut scanner = Scanner::new(text)?;
        self.value(text, &mut scanner, &self.fields, 0, results)?;
        scanner.end()
    }

    fn value(
        &self,
        text: &[u8],
        scanner: &mut Scanner<'_>,
        node: &Node,
        depth: u32,
        results: &mut [bool],
    ) -> Result<(), scan::Invalid> {
        let kind = scanner.kind()?;
        let from = scanner.at();
        match kind {
            Kind::Array => {
                scanner.check_depth(depth)?;
                let mut more = scanner.enter()?;
                while more {
                    self.value(text, scanner, node, depth + 1, results)?;
                    more = scanner.more(b']')?;
                }
            }
            Kind::Object if !node.children.is_empty() => {
                scanner.check_depth(depth)?;
                let mut more = scanner.enter()?;
                while more {
                    let key = scanner.key()?;
                    match node.children.iter().find(|(name, _)| *name == *key) {
                        Some((_, child)) => self.value(text, scanner, child, depth + 1, results)?,
                        None => scanner.pass(depth + 1)?,
                    }
                    more = scanner.more(b'}')?;
                }
            }
            _ => scanner.pass(depth)?,
        }
        let value = Value::Json(kind, &text[from..scanner.at()]);
        for test in &node.tests {
            results[*test] |= self.tests[*test].check.holds(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace::Batch;

    fn filter(condition: &str) -> Filter {
        serde_json::from_value(serde_json::json!({ "where": condition })).unwrap()
    }

    const JSON: &str = r#"{"carrier":"UA","distance":1400,"delay":-2.5,"ok":true,"gone":null,"big":9007199254740993,
        "at":{"origin":"EWR","ta\u0067":"x y"},"legs":[{"to":"IAH"},{"to":"MIA"}],"codes":[1,2],"q\"":1}"#;

    /// Key `k1`, the JSON above, a header `source` twice and `none` as null, timestamp 1000.
    fn holds(condition: &str) -> bool {
        let headers = [b"\x0csource\x06app".as_slice(), b"\x0csource\x0442", b"\x08none\x01"].concat();
        let data = [b"k1".as_slice(), JSON.as_bytes(), &headers].concat();
        let index = [0, 2, 2, JSON.len() as u32, 2 + JSON.len() as u32, headers.len() as u32, 1000, 0];
        let record = Batch::new(&data, &index).records().next().unwrap();
        filter(condition).keeps(&record).unwrap()
    }

    #[test]
    fn conditions_hold_or_do_not() {
        for condition in [
            "carrier == 'UA'",
            "carrier == \"UA\"",
            "carrier != 'AA'",
            "carrier in ['AA', 'UA']",
            "carrier exists",
            "distance == 1400",
            "distance == 1400.0",
            "distance > 1399 and distance >= 1400",
            "delay < -2",
            "ok == true",
            "gone == null",
            "gone exists",
            "not missing exists",
            "missing != 1",
            "not missing == 1",
            "not missing < 1",
            "big == 9007199254740993",
            "big != 9007199254740992",
            "at.origin starts-with 'EW'",
            "at.tag ends-with ' y'",
            "at.origin contains 'W'",
            "legs.to == 'MIA'",
            "legs.to == 'IAH'",
            "not legs.to == 'JFK'",
            "codes in [7, 2]",
            "codes exists",
            "at exists",
            r#"q\" == 1"#,
            "$key == 'k1'",
            "$key starts-with 'k'",
            "$value contains 'EWR'",
            "$timestamp == 1000",
            "$timestamp < 1001",
            "$header.source == 'app'",
            "$header.source == '42'",
            "$header.source == 42",
            "$header.none == null",
            "$header.none exists",
            "not $header.nothing exists",
            "carrier == 'AA' or distance > 1",
            "(carrier == 'AA' or ok == true) and not (gone == 1)",
            "carrier == 'UA' or carrier == 'x' and ok == false",
        ] {
            assert!(holds(condition), "{condition}");
        }
        for condition in [
            "carrier == 'ua'",
            "carrier == 1",
            "distance == '1400'",
            "carrier > 1",
            "ok == 'true'",
            "gone == 0",
            "missing == null",
            "missing > 1",
            "big == 9007199254740992",
            "carrier.x exists",
            "at == 'EWR'",
            "legs == 'MIA'",
            "$header.none == ''",
            "$header.Source exists",
            "carrier != 'UA'",
            "not ok == true",
            "carrier == 'AA' and ok == true or carrier == 'x'",
            "distance contains '4'",
        ] {
            assert!(!holds(condition), "{condition}");
        }
    }

    #[test]
    fn a_value_that_is_no_json_is_refused_kept_or_dropped() {
        let keeps = |invalid: &str, condition: &str, value: &[u8]| {
            let config = serde_json::json!({ "where": condition, "invalid": invalid });
            let filter: Filter = serde_json::from_value(config).unwrap();
            let index = [0, u32::MAX, 0, value.len() as u32, 0, 0, 0, 0];
            filter.keeps(&Batch::new(value, &index).records().next().unwrap())
        };
        assert_eq!(keeps("reject", "a == 1", b"{\"a\":1} x").unwrap_err().at, 8);
        assert_eq!(keeps("keep", "a == 1", b"no"), Ok(true));
        assert_eq!(keeps("drop", "a != 1", b"no"), Ok(false));
        assert_eq!(
            keeps("reject", "$value == 'no'", b"no"),
            Ok(true),
            "where no field is asked for, no JSON is needed"
        );
    }

    #[test]
    fn a_null_value_has_no_fields() {
        let index = [0, u32::MAX, 0, u32::MAX, 0, 0, 0, 0];
        let batch = Batch::new(b"", &index);
        let record = batch.records().next().unwrap();
        assert_eq!(filter("a == 1").keeps(&record), Ok(false));
        assert_eq!(filter("not $value exists").keeps(&record), Ok(true));
    }

    #[test]
    fn a_condition_that_makes_no_sense_is_refused_at_its_column() {
        let deep = "(".repeat(100) + "a == 1";
        for (condition, reason) in [
            ("", "column 1: a field, `$key`, `$value`, `$timestamp` or `$header.NAME` is expected, not the end"),
            ("a", "column 2: a comparison, `in` or `exists` is expected, not the end"),
            ("a == ", "column 6: a text in quotes, a number, `true`, `false` or `null` is expected, not the end"),
            ("a == b", "column 6: a text in quotes, a number, `true`, `false` or `null` is expected, not `b`"),
            ("a = 1", "column 3: `=` means nothing here"),
            ("a == 1 b == 2", "column 8: `and`, `or` or the end is expected, not `b`"),
            ("(a == 1", "column 8: `)` is expected, not the end"),
            ("a in 1", "column 6: `[` is expected, not a number"),
            ("a in [1", "column 8: `,` or `]` is expected, not the end"),
            ("a starts-with 1", "column 15: a text in quotes is expected, not a number"),
            ("a == 'x", "column 6: a text does not end"),
            ("a == 1x", "column 6: this is not a number"),
            ("$foo == 1", "column 1: a field"),
            ("a..b == 1", "column 1: a field"),
            ("and == 1", "column 1: a field"),
            (&deep, "less nesting is expected"),
        ] {
            let error = serde_json::from_value::<Filter>(serde_json::json!({ "where": condition })).unwrap_err();
            assert!(error.to_string().contains(reason), "{condition}: {error}");
        }
    }
}
