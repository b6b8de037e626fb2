//! Promise "open": `docs/layout.md` is true, constant by constant.
//!
//! The constants are read from the source as text, so that none can be forgotten on either side; the
//! fingerprint is compiled in, so that a change of the layout without a new version fails here.

use std::collections::BTreeMap;

#[expect(dead_code, reason = "all constants are here, and few are named")]
#[path = "../src/region/layout.rs"]
mod layout;

const SOURCE: &str = include_str!("../src/region/layout.rs");
const DOCUMENT: &str = include_str!("../docs/layout.md");
/// Constants that no table can hold.
const UNLISTED: [&str; 2] = ["magic", "layout_print"];

/// `module.name` → value.
type Constants = BTreeMap<String, u64>;

#[derive(Debug, PartialEq)]
struct Field {
    name: String,
    offset: u64,
    size: u64,
}

/// The constants of a source: `const NAME: T = expression;`, in modules or outside. Twice, since
/// some are built on later ones.
fn constants(source: &str) -> Constants {
    let mut found = Constants::new();
    for _ in 0..2 {
        find_constants(source, &mut found);
    }
    found
}

fn find_constants(source: &str, found: &mut Constants) {
    let mut module = String::new();
    let code: String =
        source.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for line in code.split_inclusive(['\n', ';', '{', '}']) {
        let line = line.trim();
        if let Some((_, name)) = line.split_once("pub(crate) mod ") {
            module = format!("{}.", name.trim_end_matches([' ', '{']));
        } else if line == "}" {
            module.clear();
        } else if let Some((_, rest)) = line.split_once("pub(crate) const ")
            && let Some((name, expression)) = rest.split_once('=')
            && let Some((name, _)) = name.split_once(':')
        {
            let known = |path: &str| lookup(found, &module, path);
            if let Some(value) = evaluate(expression.trim_end_matches(';'), &known) {
                found.insert(format!("{module}{}", name.to_lowercase()), value);
            }
        }
    }
}

/// A constant by its path as the source writes it.
fn lookup(found: &Constants, module: &str, path: &str) -> Option<u64> {
    let path = path.to_lowercase();
    let key = match path.strip_prefix("super::") {
        Some(outer) => outer.to_owned(),
        None => path.replace("::", "."),
    };
    found.get(&format!("{module}{key}")).or_else(|| found.get(&key)).copied()
}

/// Sums, products and quotients of numbers and names; nothing for anything else.
fn evaluate(expression: &str, known: &dyn Fn(&str) -> Option<u64>) -> Option<u64> {
    let text = expression.trim();
    for operators in [['+', '-'], ['*', '/']] {
        let mut depth = 0;
        for (at, mark) in text.char_indices().rev() {
            match mark {
                ')' => depth += 1,
                '(' => depth -= 1,
                _ if depth == 0 && operators.contains(&mark) => {
                    let left = evaluate(&text[..at], known)?;
                    let right = evaluate(&text[at + 1..], known)?;
                    return match mark {
                        '+' => left.checked_add(right),
                        '-' => left.checked_sub(right),
                        '*' => left.checked_mul(right),
                        _ => left.checked_div(right),
                    };
                }
                _ => {}
            }
        }
    }
    if let Some(inner) = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
        return evaluate(inner, known);
    }
    let digits = text.replace('_', "");
    match digits.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok(),
        None => digits.parse().ok().or_else(|| known(text)),
    }
}

/// The fields and constants that the document's tables name.
fn documented(document: &str) -> (Vec<Field>, Constants) {
    let (mut fields, mut constants, mut module) = (Vec::new(), Constants::new(), String::new());
    for line in document.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            let named = title.split('`').nth(1);
            module = named.map(|name| format!("{name}.")).unwrap_or_default();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = |cell: &str| format!("{module}{}", cell.trim_matches('`'));
        match cells[..] {
            ["", offset, size, field, _, _, ""] if field.starts_with('`') => {
                if let (Ok(offset), Ok(size)) = (offset.parse(), size.parse()) {
                    fields.push(Field { name: name(field), offset, size });
                }
            }
            ["", constant, value, ""] if constant.starts_with('`') => {
                if let Ok(value) = value.parse() {
                    constants.insert(name(constant), value);
                }
            }
            _ => {}
        }
    }
    (fields, constants)
}

/// What differs between a source and a document.
fn differences(source: &str, document: &str) -> Vec<String> {
    let real = constants(source);
    let (fields, mut told) = documented(document);
    let mut findings = Vec::new();
    for pair in fields.windows(2) {
        let same = pair[0].name.split('.').next() == pair[1].name.split('.').next();
        if same && pair[0].offset + pair[0].size > pair[1].offset {
            findings.push(format!("{} overlaps {}", pair[0].name, pair[1].name));
        }
    }
    told.extend(fields.into_iter().map(|field| (field.name, field.offset)));
    for (name, value) in &real {
        let is_struct_size = name.ends_with(".size") && name != "header.size";
        match told.get(name) {
            Some(told) if told == value => {}
            Some(told) => findings.push(format!("{name} is {value}, the document says {told}")),
            None if is_struct_size || UNLISTED.contains(&name.as_str()) => {}
            None => findings.push(format!("{name} = {value} is not in the document")),
        }
    }
    let unknown = told.keys().filter(|name| !real.contains_key(*name));
    findings.extend(unknown.map(|name| format!("{name} is in the document alone")));
    findings
}

/// Plant: `| 512 | 8 | \`head\`` with 504 in the document; a constant added to the source.
#[test]
fn document_and_source_agree() {
    assert!(constants(SOURCE).len() > 80, "the source's constants were not found");
    assert!(documented(DOCUMENT).0.len() > 60, "the document's tables were not found");
    let findings = differences(SOURCE, DOCUMENT);
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

/// Plant: any line of `ALL` taken out.
#[test]
fn the_fingerprint_covers_every_constant() {
    let list =
        SOURCE.split("const ALL: &[u64] = &[").nth(1).and_then(|rest| rest.split(']').next());
    let listed: Vec<String> = list
        .unwrap_or_default()
        .split(',')
        .map(|name| name.trim().replace("::", ".").to_lowercase())
        .map(|name| name.trim_end_matches(" as u64").to_owned())
        .collect();
    let apart = ["layout_version", "byte_order"];
    for name in constants(SOURCE).keys().filter(|name| !apart.contains(&name.as_str())) {
        assert!(listed.contains(name), "{name} is not in the fingerprint");
    }
}

#[test]
fn struct_sizes_are_told() {
    for (heading, size) in [
        ("## Stripe", layout::stripe::SIZE),
        ("## Member", layout::member::SIZE),
        ("## Watch", layout::watch::SIZE),
    ] {
        let section = DOCUMENT.split(heading).nth(1).and_then(|rest| rest.split("\n## ").next());
        let digits = size.to_string();
        let (thousands, rest) = digits.split_at(digits.len().saturating_sub(3));
        let comma = if thousands.is_empty() { "" } else { "," };
        let sentence = format!("The struct is {thousands}{comma}{rest} bytes.");
        assert!(section.is_some_and(|s| s.contains(&sentence)), "{heading}: {sentence}");
    }
}

/// The fingerprint of each version stands in the document's last table and never changes there: a
/// layout that moved needs a new version and a new row. Plant: any offset in the source plus 8.
#[test]
fn a_new_layout_has_a_new_version() {
    let row = format!("| {} | {:#x} |", layout::LAYOUT_VERSION, layout::LAYOUT_PRINT);
    assert!(DOCUMENT.contains(&row), "docs/layout.md has no row `{row}`");
}

#[test]
fn planted_differences_are_found() {
    let source = "pub(crate) const LINE: u64 = 64;\npub(crate) mod a {\n    pub(crate) const X: u64 = 0;\n    \
                  pub(crate) const Y: u64 = X + 2 * super::LINE;\n}\n";
    let document =
        "| `line` | 64 |\n## A (`a`)\n| 0 | 8 | `x` | w | l |\n| 128 | 8 | `y` | w | l |\n";
    assert_eq!(differences(source, document), Vec::<String>::new());
    let count = |source: &str, document: &str| differences(source, document).len();
    assert_eq!(count(source, &document.replace("128", "120")), 1, "another offset");
    assert_eq!(count(source, &document.replace("| 0 | 8", "| 0 | 136")), 1, "an overlap");
    assert_eq!(count(source, &document.replace("`x`", "`z`")), 2, "another name");
    assert_eq!(count(&source.replace("X: u64 = 0", "X: u64 = 8"), document), 2, "both moved");
}
