use super::*;

fn masker(config: &str) -> Masker {
    serde_json::from_str(config).unwrap()
}

fn mask(config: &str, text: &str) -> Result<Option<String>, String> {
    let mut out = b"before".to_vec();
    let changed = masker(config).mask(text.as_bytes(), &mut out).map_err(|invalid| invalid.to_string())?;
    Ok(changed.then(|| String::from_utf8(out.split_off(6)).unwrap()))
}

#[track_caller]
fn masks(config: &str, text: &str, expected: &str) {
    assert_eq!(mask(config, text).unwrap().as_deref(), Some(expected));
    serde_json::from_str::<serde_json::Value>(expected).unwrap();
}

#[test]
fn named_fields_are_masked_and_every_other_byte_stays() {
    let config = r#"{"fields":["email","card"]}"#;
    masks(
        config,
        " {\"id\" : 1.0e0,\n\t\"email\" :  \"a@b.c\" , \"x\":{\"email\":\"kept: another path\"},\"card\":4111}\n",
        " {\"id\" : 1.0e0,\n\t\"email\" :  \"***\" , \"x\":{\"email\":\"kept: another path\"},\"card\":\"***\"}\n",
    );
    assert_eq!(mask(config, r#"{"id":1,"emails":"a"}"#), Ok(None));
    assert_eq!(mask(config, r#""email""#), Ok(None));
    assert_eq!(mask(config, r#"{"email":null}"#), Ok(None));
}

#[test]
fn paths_lead_through_objects_and_arrays() {
    let config = r#"{"fields":["a.b","items.sku","dotted\\.name"]}"#;
    masks(
        config,
        r#"{"a":{"b":1,"c":2},"items":[{"sku":"x","n":1},[{"sku":"y"}],3],"dotted.name":true,"b":1}"#,
        r#"{"a":{"b":"***","c":2},"items":[{"sku":"***","n":1},[{"sku":"***"}],3],"dotted.name":"***","b":1}"#,
    );
    masks(config, r#"[{"a":{"b":{"deep":[1]}}}]"#, r#"[{"a":{"b":"***"}}]"#);
}

#[test]
fn a_field_cannot_hide_behind_escapes_or_repetition() {
    let config = r#"{"fields":["email"]}"#;
    let masked = r#"{"\u0065mail":"***","email":"***","email":"***"}"#;
    masks(config, r#"{"\u0065mail":"a","email":"b","email":"c"}"#, masked);
}

#[test]
fn each_field_may_have_a_mask_of_its_own() {
    let config = r#"{"fields":["a",{"path":"b","with":{"keep-last":4}},{"path":"c","with":{"text":"\"-\n"}}],
                    "with":{"hash":"k"}}"#;
    let out = mask(config, r#"{"a":"x","b":"4111111111111111","c":1}"#).unwrap().unwrap();
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((value["b"].as_str(), value["c"].as_str()), (Some("************1111"), Some("\"-\n")));
    assert_eq!(value["a"].as_str().unwrap().len(), 32);
}

#[test]
fn a_hash_is_of_what_a_string_says() {
    let config = r#"{"fields":["a","b","c"],"with":{"hash":"key"}}"#;
    let text = "The quick brown fox jumps over the lazy dog";
    let out = mask(config, &format!(r#"{{"a":"{text}","b":"\u0054{}","c":"yx"}}"#, &text[1..])).unwrap().unwrap();
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["a"], value["b"]);
    assert_ne!(value["a"], value["c"]);
    // The well-known example of HMAC-SHA256, cut in half.
    assert_eq!(value["a"], "f7bc83f430538424b13298e6aa6fb143");
}

#[test]
fn keep_last_counts_characters_and_keeps_nothing_of_structures() {
    let config = r#"{"fields":["a"],"with":{"keep-last":2}}"#;
    masks(config, r#"{"a":"häuß\"é"}"#, r#"{"a":"****\"é"}"#);
    masks(config, r#"{"a":"x"}"#, r#"{"a":"x"}"#);
    masks(config, r#"{"a":12345}"#, r#"{"a":"***45"}"#);
    masks(config, r#"{"a":[12345]}"#, r#"{"a":"***"}"#);
}

#[test]
fn what_is_not_json_is_refused_or_kept() {
    let error = mask(r#"{"fields":["a"]}"#, "{\"a\":1").unwrap_err();
    assert_eq!(error, "invalid JSON at byte 6: a comma or the end of the value is expected");
    assert!(mask(r#"{"fields":["a"]}"#, "").is_err());
    assert_eq!(mask(r#"{"fields":["a"],"invalid":"keep"}"#, "{\"a\":1"), Ok(None));
}

#[test]
fn a_config_that_makes_no_sense_is_refused_with_the_reason() {
    for (config, reason) in [
        (r#"{"fields":[]}"#, "names no field"),
        (r#"{"fields":["a..b"]}"#, "empty name"),
        (r#"{"fields":["a","a"]}"#, "twice"),
        (r#"{"fields":["a\\"]}"#, "ends in"),
        (r#"{"fields":["a"],"wiht":1}"#, "wiht"),
        (r#"{"fields":["a"],"with":{"blur":1}}"#, "blur"),
        (r"{}", "fields"),
    ] {
        let error = serde_json::from_str::<Masker>(config).unwrap_err().to_string();
        assert!(error.contains(reason), "{config}: {error}");
    }
}

/// Against a tree: whatever the text, the masked one reads as the tree with its fields replaced.
#[test]
fn masking_agrees_with_masking_a_tree() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed_u64);
    println!("SEED={seed}");
    let mut state = seed;
    let mut next = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let masker = masker(r#"{"fields":["a","b.c","c.b.a"]}"#);
    let mut masked = 0;
    for _ in 0..2000 {
        let tree = tree(&mut next, 0);
        let text = if next(2) == 0 { tree.to_string() } else { serde_json::to_string_pretty(&tree).unwrap() };
        let mut out = Vec::new();
        let changed = masker.mask(text.as_bytes(), &mut out).unwrap();
        masked += u32::from(changed);
        let mut expected = tree.clone();
        for path in [&["a"][..], &["b", "c"], &["c", "b", "a"]] {
            replace(&mut expected, path);
        }
        let result = if changed { serde_json::from_slice(&out).unwrap() } else { tree };
        assert_eq!(result, expected, "{text}");
    }
    assert!(masked > 200, "only {masked} texts had anything to mask");
}

fn tree(next: &mut impl FnMut(u64) -> u64, depth: u64) -> serde_json::Value {
    match next(if depth > 4 { 4 } else { 9 }) {
        0 => serde_json::Value::Null,
        1 => next(1000).into(),
        2 => "quo\"te \\ é".into(),
        3 => (next(2) == 0).into(),
        4 => (0..next(4)).map(|_| tree(next, depth + 1)).collect::<Vec<_>>().into(),
        _ => {
            let names = ["a", "b", "c", "d", "a\"b"];
            let members = (0..next(6)).map(|i| (names[i as usize % 5].to_owned(), tree(next, depth + 1)));
            serde_json::Value::Object(members.collect())
        }
    }
}

fn replace(value: &mut serde_json::Value, path: &[&str]) {
    match (value, path) {
        (serde_json::Value::Array(elements), _) => elements.iter_mut().for_each(|element| replace(element, path)),
        (serde_json::Value::Object(members), [name, rest @ ..]) => {
            if let Some(member) = members.get_mut(*name) {
                match rest {
                    [] if member.is_null() => {}
                    [] => *member = "***".into(),
                    _ => replace(member, rest),
                }
            }
        }
        _ => {}
    }
}
