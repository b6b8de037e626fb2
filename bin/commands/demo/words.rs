//! What a word is: the same for the workers and for the plain count.
//!
//! A word is a longest run of ASCII letters and digits, made lower case, and of letters beyond
//! ASCII, as they are; of a longer one the first 64 bytes count. All else separates words: white
//! space, marks, NUL, and bytes that are no UTF-8.

use std::collections::HashMap;

/// Bytes of a word that count.
pub(super) const WORD_MAX: usize = 64;

/// Tells each word, in order.
pub(super) fn each_word(bytes: &[u8], mut tell: impl FnMut(&str)) {
    let mut word = String::with_capacity(WORD_MAX);
    let mut is_full = false;
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_ascii_alphanumeric() || !letter.is_ascii() && letter.is_alphabetic() {
                is_full |= word.len() + letter.len_utf8() > WORD_MAX;
                if !is_full {
                    word.push(letter.to_ascii_lowercase());
                }
            } else if !word.is_empty() {
                tell(&word);
                word.clear();
                is_full = false;
            }
        }
        if !chunk.invalid().is_empty() && !word.is_empty() {
            tell(&word);
            word.clear();
            is_full = false;
        }
    }
    if !word.is_empty() {
        tell(&word);
    }
}

/// Adds the words of a text to their counts; gives how many there were.
pub(super) fn count_words(bytes: &[u8], counts: &mut HashMap<String, u64>) -> u64 {
    let mut words = 0;
    each_word(bytes, |word| {
        words += 1;
        match counts.get_mut(word) {
            Some(count) => *count += 1,
            None => drop(counts.insert(word.to_owned(), 1)),
        }
    });
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(bytes: &[u8]) -> Vec<String> {
        let mut words = Vec::new();
        each_word(bytes, |word| words.push(word.to_owned()));
        words
    }

    /// Promise: a word is what the page says, on any bytes.
    /// Plant: without the look at `invalid`, `a\xffb` is one word.
    #[test]
    fn words_are_what_they_are() {
        assert_eq!(words(b"It's 2 o'clock,\n"), ["it", "s", "2", "o", "clock"]);
        assert_eq!(
            words("\u{c9}t\u{e9} na\u{ef}ve\u{2014}\u{4f60}\u{597d}".as_bytes()),
            ["\u{c9}t\u{e9}", "na\u{ef}ve", "\u{4f60}\u{597d}"]
        );
        assert_eq!(words(b"a\xffb\0c\xe4"), ["a", "b", "c"]);
        assert!(words(b"").is_empty());
        assert!(words(b" \xff ").is_empty());
    }

    /// Promise: the first 64 bytes of a word count, and no letter is cut in two.
    /// Plant: without `is_full`, a one-byte letter after a cut is taken up again.
    #[test]
    fn long_words_are_cut() {
        let long = "x".repeat(WORD_MAX);
        assert_eq!(words(format!("{long} {long}y").as_bytes()), [long.clone(), long]);
        let odd = format!("{}\u{e9}z end", "x".repeat(WORD_MAX - 1));
        assert_eq!(words(odd.as_bytes()), ["x".repeat(WORD_MAX - 1), "end".to_owned()]);
    }
}
