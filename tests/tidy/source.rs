//! Sources as the rules see them: tokens without comments and literals, comments, and which items are tests.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Directories that hold no sources of ours.
const SKIPPED: [&str; 5] = ["target", ".git", "data", "corpus", "artifacts"];
/// What a `word` check reads, by extension; files without one are scripts.
const TEXTS: [&str; 6] = ["rs", "toml", "md", "sh", "yml", ""];

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Lexeme {
    Word(String),
    Mark(char),
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) line: usize,
    pub(crate) lexeme: Lexeme,
}

impl Token {
    pub(crate) fn word(&self) -> Option<&str> {
        match &self.lexeme {
            Lexeme::Word(word) => Some(word),
            Lexeme::Mark(_) => None,
        }
    }

    pub(crate) fn is(&self, text: &str) -> bool {
        match &self.lexeme {
            Lexeme::Word(word) => word == text,
            Lexeme::Mark(mark) => text.len() == 1 && text.starts_with(*mark),
        }
    }
}

/// One file: its text, and for Rust its tokens (no comments, no literals) and its comments.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
    pub(crate) comments: Vec<(usize, String)>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Source {
        let mut lexer = Lexer { chars: text.chars().collect(), at: 0, line: 1 };
        let (tokens, comments) =
            if path.ends_with(".rs") { lexer.run() } else { (Vec::new(), Vec::new()) };
        Source { path: path.to_owned(), text: text.to_owned(), tokens, comments }
    }

    /// Whether the file, or a directory below the topmost one, is named after its tests.
    pub(crate) fn is_test_file(&self) -> bool {
        self.path.split('/').skip(1).any(|name| name.contains("tests"))
    }

    pub(crate) fn finding(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }

    /// `table` of `src/table.rs` and `src/table/read.rs`, with the depth of the file's module.
    pub(crate) fn module(&self) -> Option<(&str, usize)> {
        let path = self.path.strip_prefix("src/")?.strip_suffix(".rs")?;
        let path = path.strip_suffix("/mod").unwrap_or(path);
        let name = path.split('/').next()?;
        (name != "lib").then(|| (name, path.split('/').count()))
    }

    /// The tokens outside of items that exist for tests alone, and the number of lines these take.
    pub(crate) fn live(&self) -> (Vec<Token>, usize) {
        let (mut live, mut test_lines, mut at) = (Vec::new(), 0, 0);
        while at < self.tokens.len() {
            let end =
                if is_test_attribute(&self.tokens, at) { item_end(&self.tokens, at) } else { at };
            if end == at {
                live.push(self.tokens[at].clone());
                at += 1;
            } else {
                test_lines += self.tokens[end - 1].line - self.tokens[at].line + 1;
                at = end;
            }
        }
        (live, test_lines)
    }
}

/// A lexer that knows just enough Rust to tell code from comments and literals.
struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn step(&mut self) -> Option<char> {
        let seen = self.peek(0)?;
        self.at += 1;
        self.line += usize::from(seen == '\n');
        Some(seen)
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }

    fn run(&mut self) -> (Vec<Token>, Vec<(usize, String)>) {
        let (mut tokens, mut comments) = (Vec::new(), Vec::new());
        while let Some(seen) = self.peek(0) {
            let line = self.line;
            match seen {
                '/' if self.peek(1) == Some('/') => comments.push((line, self.line_comment())),
                '/' if self.peek(1) == Some('*') => comments.push((line, self.block_comment())),
                '"' => self.string(),
                '\'' => self.quote(),
                _ if seen.is_alphanumeric() || seen == '_' => {
                    let word = self.word();
                    if !(matches!(word.as_str(), "r" | "br" | "cr") && self.raw_string()) {
                        tokens.push(Token { line, lexeme: Lexeme::Word(word) });
                    }
                }
                _ => {
                    self.step();
                    if !seen.is_whitespace() {
                        tokens.push(Token { line, lexeme: Lexeme::Mark(seen) });
                    }
                }
            }
        }
        (tokens, comments)
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(seen) = self.peek(0).filter(|c| c.is_alphanumeric() || *c == '_') {
            word.push(seen);
            self.step();
        }
        word
    }

    fn line_comment(&mut self) -> String {
        let mut text = String::new();
        while let Some(seen) = self.peek(0).filter(|c| *c != '\n') {
            text.push(seen);
            self.step();
        }
        text
    }

    fn block_comment(&mut self) -> String {
        let (mut text, mut depth) = (String::new(), 0);
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => depth += 1,
                (Some('*'), Some('/')) => depth -= 1,
                (None, _) => return text,
                (Some(seen), _) => {
                    text.push(seen);
                    self.step();
                    continue;
                }
            }
            self.step();
            self.step();
            if depth == 0 {
                return text;
            }
        }
    }

    fn string(&mut self) {
        self.step();
        while let Some(seen) = self.step() {
            match seen {
                '\\' => self.skip(1),
                '"' => return,
                _ => {}
            }
        }
    }

    /// A character literal, or the quote of a lifetime.
    fn quote(&mut self) {
        self.step();
        if self.peek(0) == Some('\\') {
            self.step();
            self.step();
            while self.step().is_some_and(|c| c != '\'') {}
        } else if self.peek(1) == Some('\'') {
            self.step();
            self.step();
        }
    }

    /// The rest of a raw string, behind its `r`; false when there is none (`r#type`).
    fn raw_string(&mut self) -> bool {
        let hashes = self.chars[self.at..].iter().take_while(|c| **c == '#').count();
        if self.peek(hashes) != Some('"') {
            return false;
        }
        self.skip(hashes + 1);
        while let Some(seen) = self.step() {
            if seen == '"' && (0..hashes).all(|i| self.peek(i) == Some('#')) {
                self.skip(hashes);
                return true;
            }
        }
        true
    }
}

/// `#[cfg(test)]`, `#[cfg(all(test, loom))]`; not `#[cfg(not(test))]`.
fn is_test_attribute(tokens: &[Token], at: usize) -> bool {
    let head = ["#", "[", "cfg", "("];
    if !head.iter().enumerate().all(|(i, text)| tokens.get(at + i).is_some_and(|t| t.is(text))) {
        return false;
    }
    let end = closing(tokens, at + 1);
    let names_test = |i: usize| tokens[i].is("test") && !tokens[i - 2].is("not");
    (at + head.len()..end).any(names_test)
}

/// The index behind the bracket that closes the one at `open`.
pub(crate) fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.lexeme {
            Lexeme::Mark('(' | '[' | '{') => depth += 1,
            Lexeme::Mark(')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    tokens.len()
}

/// The index behind the item whose first attribute stands at `at`.
fn item_end(tokens: &[Token], at: usize) -> usize {
    let mut index = at;
    while tokens.get(index).is_some_and(|t| t.is("#")) {
        index = closing(tokens, index + 1);
    }
    let is_import = tokens.get(index).is_some_and(|t| t.is("use"));
    while let Some(token) = tokens.get(index) {
        match token.lexeme {
            Lexeme::Mark(';') => return index + 1,
            Lexeme::Mark('{') if !is_import => return closing(tokens, index),
            Lexeme::Mark('(' | '[' | '{') => index = closing(tokens, index),
            Lexeme::Mark(')' | ']' | '}') => return index,
            _ => index += 1,
        }
    }
    index
}

/// The files under `directory`, as sources with paths relative to `root`.
fn read_tree(root: &Path, directory: &Path, found: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !SKIPPED.iter().any(|skipped| name == *skipped) {
                read_tree(root, &path, found)?;
            }
        } else if TEXTS.contains(&path.extension().unwrap_or_default().to_string_lossy().as_ref()) {
            let text = fs::read_to_string(&path)?;
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy();
            found.push(Source::new(&relative, &text));
        }
    }
    Ok(())
}

/// The directories and files of the project that are ours.
pub(crate) fn tree() -> io::Result<Vec<Source>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for name in ["src", "bin", "tests", "benches", "model", "fuzz", "docs", ".ci"] {
        let directory = root.join(name);
        if directory.is_dir() {
            read_tree(&root, &directory, &mut found)?;
        }
    }
    for entry in fs::read_dir(&root)? {
        let path = entry?.path();
        let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && ["md", "toml"].contains(&extension.as_str()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push(Source::new(&name, &fs::read_to_string(&path)?));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_files_are_told_by_their_path() {
        let is_test = |path| Source::new(path, "").is_test_file();
        assert!(is_test("src/table/crash_tests.rs") && is_test("src/loom_tests/read.rs"));
        assert!(!is_test("src/table/read.rs") && !is_test("tests/tidy.rs"));
    }

    #[test]
    fn lexer_tells_code_from_literals() {
        let text = "fn f<'a>(c: char) { if c == '\"' || c == '\\'' { g(b'x', r##\"unsafe\"#\"##) } } /* a\n/* b */ */ z";
        let source = Source::new("src/a.rs", text);
        assert!(!source.tokens.iter().any(|t| t.is("unsafe")));
        assert_eq!(source.tokens.last().map(|t| (t.line, t.is("z"))), Some((2, true)));
        assert_eq!(source.comments.len(), 1);
    }
}
