//! The house rules that neither the compiler nor clippy knows, checked over the source tree.
//!
//! | rule | what it holds |
//! | --- | --- |
//! | layers | an import points only up the module list of `src/lib.rs` |
//! | unsafe | unsafe code stands in `src/sys`, in `src/region`, or where a file's head says why |
//! | edges | each `[edge]` of an ordering comment has a releasing and an acquiring side |
//! | length | at most 500 lines a file that are not tests |
//! | words | nothing left for later, no white space at a line's end |
//! | backends | `src/backend` never names the region; `bin` has no unsafe code |
//!
//! Each rule is a function from sources to findings, and each is shown a planted fault first, so that
//! a rule that has gone blind fails here too.

#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeMap;

use source::{Lexeme, Source, Token, closing, tree};

/// Lines of a file that are not tests.
const LINES_MAX: usize = 500;
/// How far below its comment an ordered access may begin.
const EDGE_LINES: usize = 12;

/// Each name that a path reaches directly under the crate's root: `crate::x`, `crate::{x, y::z}`,
/// or as many `super` as it takes.
fn root_names(tokens: &[Token], module_depth: usize) -> Vec<(usize, String)> {
    let (mut names, mut braces) = (Vec::new(), Vec::new());
    let is_path = |i: usize| tokens.get(i).is_some_and(|t| t.is(":"));
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match &token.lexeme {
            Lexeme::Mark('{') => {
                braces.push(at >= 3 && tokens[at - 3].is("mod"));
            }
            Lexeme::Mark('}') => drop(braces.pop()),
            Lexeme::Word(word) if word == "crate" && is_path(at) => {
                names.extend(path_heads(tokens, at + 2));
            }
            Lexeme::Word(word) if word == "super" && is_path(at) => {
                let mut climbed = 1;
                while tokens.get(at + 2).is_some_and(|t| t.is("super")) && is_path(at + 3) {
                    climbed += 1;
                    at += 3;
                }
                let inline = braces.iter().filter(|is_mod| **is_mod).count();
                if climbed >= module_depth + inline {
                    names.extend(path_heads(tokens, at + 2));
                }
            }
            _ => {}
        }
    }
    names
}

/// The first segment of the path at `at`, or of each path in the braces there.
fn path_heads(tokens: &[Token], at: usize) -> Vec<(usize, String)> {
    let named = |token: &Token| match &token.lexeme {
        Lexeme::Word(word) => (token.line, word.clone()),
        Lexeme::Mark(mark) => (token.line, mark.to_string()),
    };
    match tokens.get(at) {
        None => Vec::new(),
        Some(token) if !token.is("{") => vec![named(token)],
        Some(_) => {
            let (mut heads, mut index, end) = (Vec::new(), at + 1, closing(tokens, at) - 1);
            while index < end {
                heads.push(named(&tokens[index]));
                while index < end && !tokens[index].is(",") {
                    let is_group = tokens[index].is("{");
                    index = if is_group { closing(tokens, index) } else { index + 1 };
                }
                index += 1;
            }
            heads
        }
    }
}

/// The modules of `lib.rs` below the comment that opens the list, lowest first.
fn layer_list(lib: &Source) -> Result<Vec<String>, String> {
    let marked = lib.comments.iter().find(|(_, text)| text.contains("Layers, lowest first"));
    let (marker, _) = marked.ok_or("src/lib.rs: no `Layers, lowest first` comment")?;
    let mut layers = Vec::new();
    let (live, _) = lib.live();
    for pair in live.windows(2).filter(|pair| pair[0].is("mod")) {
        if pair[0].line < *marker {
            return Err(lib.finding(pair[0].line, "a module above the layer list"));
        }
        layers.extend(pair[1].word().map(str::to_owned));
    }
    Ok(layers)
}

/// Rule "layers".
fn layers_point_up(sources: &[Source]) -> Vec<String> {
    let Some(lib) = sources.iter().find(|s| s.path == "src/lib.rs") else {
        return vec!["src/lib.rs: missing".to_owned()];
    };
    let layers = match layer_list(lib) {
        Ok(layers) => layers,
        Err(finding) => return vec![finding],
    };
    let place = |name: &str| layers.iter().position(|layer| layer == name);
    let mut findings = Vec::new();
    for source in sources.iter().filter(|s| !s.is_test_file()) {
        let Some((module, depth)) = source.module() else { continue };
        let Some(own) = place(module) else {
            findings.push(source.finding(1, "its module is not in the layer list of src/lib.rs"));
            continue;
        };
        for (line, name) in root_names(&source.live().0, depth) {
            let what = match place(&name) {
                Some(other) if other <= own => continue,
                Some(_) => format!("`{module}` imports `{name}`, a layer above its own"),
                None => format!("`crate::{name}` names no layer: import it from its module"),
            };
            findings.push(source.finding(line, &what));
        }
    }
    findings
}

/// Rule "unsafe", and the half of rule "backends" that concerns `bin`.
fn unsafe_is_where_it_may_be(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in
        sources.iter().filter(|s| s.path.starts_with("src/") || s.path.starts_with("bin/"))
    {
        let at_home = ["src/sys/", "src/sys.rs", "src/region/", "src/region.rs"];
        if at_home.iter().any(|home| source.path.starts_with(home)) {
            continue;
        }
        let may_earn = source.path.starts_with("src/") && source.path != "src/lib.rs";
        if may_earn && head_expects_unsafe(&source.text) {
            continue;
        }
        let found = source.tokens.iter().filter(|t| t.is("unsafe"));
        findings.extend(found.map(|t| source.finding(t.line, "unsafe code has no place here")));
    }
    findings
}

/// `#![expect(unsafe_code, reason = …)]` among the lines before the first item.
fn head_expects_unsafe(text: &str) -> bool {
    let is_head = |line: &&str| {
        line.is_empty() || ["//", "#![", " ", ")]"].iter().any(|start| line.starts_with(start))
    };
    let head: String = text.lines().take_while(is_head).filter(|l| !l.starts_with("//")).collect();
    let head: String = head.chars().filter(|c| !c.is_whitespace()).collect();
    head.contains("#![") && head.contains("expect(unsafe_code,reason=")
}

/// Rule "edges": where an edge is named, and on which side that place stands.
fn edges_have_two_sides(sources: &[Source]) -> Vec<String> {
    let mut edges: BTreeMap<String, Vec<(String, bool, bool)>> = BTreeMap::new();
    let mut findings = Vec::new();
    for source in sources.iter().filter(|s| s.path.starts_with("src/") && !s.is_test_file()) {
        for (line, names, text) in ordering_comments(source) {
            let (releases, acquires) = sides(source, line, &text);
            if names.is_empty() {
                findings.push(source.finding(line, "an ordering comment without an `[edge]`"));
            }
            if !releases && !acquires {
                findings.push(source.finding(line, "no ordered access below its ordering comment"));
            }
            for name in names {
                let place = (source.finding(line, &name), releases, acquires);
                edges.entry(name).or_default().push(place);
            }
        }
    }
    for places in edges.values() {
        let (first, ..) = &places[0];
        let both = places.iter().any(|p| p.1) && places.iter().any(|p| p.2);
        if places.len() < 2 || !both {
            findings.push(format!("{first}: the other side of this edge is nowhere named"));
        }
    }
    findings
}

/// Each `ORDERING:` remark: its line, the `[names]` behind it, and its text to the block's end.
fn ordering_comments(source: &Source) -> Vec<(usize, Vec<String>, String)> {
    let mut remarks: Vec<(usize, Vec<String>, String)> = Vec::new();
    let mut last = (0, false);
    for (line, comment) in &source.comments {
        let text = comment.trim_start_matches(['/', '!', '*']).trim();
        let begins = text.strip_prefix("ORDERING:").map(str::trim);
        if let Some(mut rest) = begins {
            let mut names = Vec::new();
            while let Some((name, after)) = rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
                names.push(name.to_owned());
                rest = after.trim_start_matches([',', ' ']);
            }
            remarks.push((*line, names, rest.to_owned()));
        } else if last == (line - 1, true) {
            let Some((_, _, all)) = remarks.last_mut() else { continue };
            all.push(' ');
            all.push_str(text);
        }
        last = (*line, begins.is_some() || last == (line - 1, true));
    }
    remarks
}

/// Whether an ordering remark stands on a releasing and on an acquiring side: by its own words
/// before `pairs with`, and by the first ordered access below it.
fn sides(source: &Source, line: usize, text: &str) -> (bool, bool) {
    let own = text.split("pairs with").next().unwrap_or_default().to_lowercase();
    let near = source.tokens.iter().skip_while(|t| t.line < line);
    let near = near.take_while(|t| t.line <= line + EDGE_LINES).filter_map(Token::word);
    let code = near.map(str::to_lowercase).find(|word| {
        ["acquire", "release", "acqrel", "seqcst", "seq_cst", "acq_rel"]
            .iter()
            .any(|order| word.contains(order))
    });
    let code = code.unwrap_or_default();
    let full = ["acqrel", "seqcst", "seq_cst", "acq_rel"];
    let both = full.iter().any(|order| own.contains(order) || code.contains(order));
    let has = |side: &str| both || own.contains(side) || code.contains(side);
    (has("release"), has("acquire"))
}

/// Rule "length".
fn files_are_short(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|s| s.path.ends_with(".rs") && !s.is_test_file()) {
        let count = source.text.lines().count() - source.live().1;
        if count > LINES_MAX {
            let what = format!("{count} lines that are not tests, {LINES_MAX} allowed");
            findings.push(source.finding(1, &what));
        }
    }
    findings
}

/// Rule "words".
fn nothing_is_left_for_later(sources: &[Source]) -> Vec<String> {
    let banned = [["to", "do!"], ["unimple", "mented!"], ["FIX", "ME"], ["dbg", "!("]];
    let banned = banned.map(|parts| parts.concat());
    let mut findings = Vec::new();
    for source in sources {
        for (index, line) in source.text.lines().enumerate() {
            if line.ends_with([' ', '\t']) {
                findings.push(source.finding(index + 1, "white space at the line's end"));
            }
            for word in banned.iter().filter(|word| line.contains(word.as_str())) {
                findings.push(source.finding(index + 1, &format!("`{word}`")));
            }
        }
    }
    findings
}

/// Rule "backends", tests included.
fn backends_never_see_the_region(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|s| s.path.starts_with("src/backend")) {
        let Some((_, depth)) = source.module() else { continue };
        let names = root_names(&source.tokens, depth).into_iter().filter(|(_, n)| n == "region");
        findings.extend(names.map(|(line, _)| source.finding(line, "a backend names the region")));
    }
    findings
}

type Rule = fn(&[Source]) -> Vec<String>;

fn holds(rule: Rule) {
    let sources = tree().unwrap_or_default();
    assert!(sources.iter().any(|s| s.path == "src/lib.rs"), "the source tree was not found");
    let findings = rule(&sources);
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

fn findings(rule: Rule, planted: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<Source> = planted.iter().map(|(path, text)| Source::new(path, text)).collect();
    rule(&sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIB: (&str, &str) = (
        "src/lib.rs",
        "//! Doc.\n\n// Layers, lowest first; an import may only point up.\nmod sys;\nmod region;\n\
         pub mod lock;\n#[cfg(test)]\nmod harness;\n",
    );

    #[test]
    fn tree_layers() {
        holds(layers_point_up);
    }

    #[test]
    fn tree_unsafe() {
        holds(unsafe_is_where_it_may_be);
    }

    #[test]
    fn tree_edges() {
        holds(edges_have_two_sides);
    }

    #[test]
    fn tree_length() {
        holds(files_are_short);
    }

    #[test]
    fn tree_words() {
        holds(nothing_is_left_for_later);
    }

    #[test]
    fn tree_backends() {
        holds(backends_never_see_the_region);
    }

    fn imports(text: &str) -> usize {
        findings(layers_point_up, &[LIB, ("src/region/mod.rs", text)]).len()
    }

    #[test]
    fn layers_planted() {
        assert_eq!(imports("use crate::sys::Fd;\nuse crate::region::header;\n"), 0);
        assert_eq!(imports("use crate::lock::RobustLock;\n"), 1);
        assert_eq!(imports("use crate::{sys::{Fd, Map}, lock::{A, B}};\n"), 1);
        assert_eq!(imports("fn f() { crate::lock::g() }\n"), 1);
        assert_eq!(imports("use super::lock::RobustLock;\n"), 1);
        assert_eq!(imports("use crate::Revision;\n"), 1, "an item of the root");
        assert_eq!(imports("/// See [`crate::lock`].\nfn f() { g(\"crate::lock::x\") }\n"), 0);
        assert_eq!(imports("#[cfg(test)]\nmod tests { use crate::lock::A; }\n"), 0);
        assert_eq!(imports("#[cfg(test)]\nuse crate::lock::A;\nuse crate::lock::B;\n"), 1);
        assert_eq!(imports("#[cfg(not(test))]\nuse crate::lock::A;\n"), 1);
    }

    #[test]
    fn layers_planted_in_submodules() {
        let deep = |text| findings(layers_point_up, &[LIB, ("src/region/attach.rs", text)]).len();
        assert_eq!(deep("use super::header::Header;\n"), 0);
        assert_eq!(deep("use super::super::lock::RobustLock;\n"), 1);
        assert_eq!(deep("mod inner { use super::super::header::Header; }\n"), 0);
        let unlisted = findings(layers_point_up, &[LIB, ("src/extra.rs", "fn f() {}\n")]);
        assert_eq!(unlisted.len(), 1);
        let stray =
            findings(layers_point_up, &[("src/lib.rs", "mod a;\n// Layers, lowest first\n")]);
        assert_eq!(stray.len(), 1);
        assert_eq!(findings(layers_point_up, &[("src/lib.rs", "mod a;\n")]).len(), 1);
    }

    #[test]
    fn unsafe_planted() {
        let code = "//! Doc.\nfn f() { unsafe { g() } }\n";
        let earned = format!("#![expect(unsafe_code, reason = \"measured\")]\n{code}");
        let late = format!("{code}#![expect(unsafe_code, reason = \"measured\")]\n");
        let count = |path, text| findings(unsafe_is_where_it_may_be, &[(path, text)]).len();
        assert_eq!(count("src/sys/mmap.rs", code), 0);
        assert_eq!(count("src/region/mod.rs", code), 0);
        assert_eq!(count("src/lock.rs", code), 1);
        assert_eq!(count("src/system.rs", code), 1);
        assert_eq!(count("src/lock.rs", &earned), 0);
        assert_eq!(count("src/lock.rs", &late), 1);
        assert_eq!(count("bin/main.rs", &earned), 1);
        assert_eq!(count("src/lib.rs", &earned), 1);
        assert_eq!(count("src/lock.rs", "// unsafe\nfn f() { g(\"unsafe\", r#\"unsafe\"#) }\n"), 0);
    }

    #[test]
    fn edges_planted() {
        let store = "fn f() {\n    // ORDERING: [word] Release; pairs with the Acquire load in `g`.\n    \
                     a.store(1, Release);\n}\n";
        let load = "fn g() {\n    // ORDERING: [word] the look\n    // before the copy.\n    \
                    a.load(Acquire);\n}\n";
        let count = |text: &str| findings(edges_have_two_sides, &[("src/lock.rs", text)]).len();
        assert_eq!(count(&format!("{store}{load}")), 0);
        assert_eq!(count(store), 1, "one side");
        assert_eq!(count(&format!("{store}{store}")), 1, "twice the same side");
        assert_eq!(count("// ORDERING: [word] as above.\nfn f() {}\n"), 2, "no access");
        assert_eq!(count("// ORDERING: see above.\nfn f() { fence(SeqCst) }\n"), 1, "no name");
        let fences = "// ORDERING: [bell] flag first.\nfence(SeqCst);\n";
        assert_eq!(count(&format!("{fences}{fences}")), 0);
    }

    #[test]
    fn length_planted() {
        let line = "fn f() {}\n";
        let count = |text: &str| findings(files_are_short, &[("src/lock.rs", text)]).len();
        assert_eq!(count(&line.repeat(LINES_MAX)), 0);
        assert_eq!(count(&line.repeat(LINES_MAX + 1)), 1);
        let long = line.repeat(LINES_MAX + 1);
        assert_eq!(findings(files_are_short, &[("src/lock_tests/mod.rs", &long)]).len(), 0);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", line.repeat(LINES_MAX));
        assert_eq!(count(&format!("{}{tests}", line.repeat(LINES_MAX))), 0);
        assert_eq!(count(&format!("{tests}{}", line.repeat(LINES_MAX + 1))), 1);
    }

    #[test]
    fn words_planted() {
        let count = |text: &str| findings(nothing_is_left_for_later, &[("docs/a.md", text)]).len();
        assert_eq!(count("fine\n"), 0);
        assert_eq!(count("spaces  \n"), 1);
        assert_eq!(count(&["a ", "to", "do!() b\n"].concat()), 1);
        assert_eq!(count(&["FIX", "ME: later\n"].concat()), 1);
    }

    #[test]
    fn backends_planted() {
        let rule = backends_never_see_the_region;
        let count = |path, text| findings(rule, &[(path, text)]).len();
        assert_eq!(count("src/backend/image.rs", "use crate::snapshot::Entry;\n"), 0);
        assert_eq!(count("src/backend/image.rs", "use crate::region::Region;\n"), 1);
        assert_eq!(count("src/backend/image.rs", "use crate::{sys, region};\n"), 1);
        assert_eq!(count("src/backend/mod.rs", "use super::region::Region;\n"), 1);
        assert_eq!(count("src/table/mod.rs", "use crate::region::Region;\n"), 0);
    }
}
