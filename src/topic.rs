//! Topics of messages, and the patterns that choose among them.
//!
//! A pattern is compared with a whole topic: `*` stands for any characters, none included, `?` for
//! one, `\` takes the next one as it is. One that ends with `/` stands for all topics below it.

use crate::types::limits::TOPIC_MAX;

/// A key was set.
pub(crate) const VALUE_CHANGED: &str = "value_changed";
/// A key was deleted, or expired.
pub(crate) const VALUE_DELETED: &str = "value_deleted";
/// The bus was emptied.
pub(crate) const CACHE_CLEARED: &str = "cache_cleared";
/// The bus was restored from a backup.
pub(crate) const DATA_RESTORED: &str = "data_restored";

/// The topics under which the bus itself tells its changes.
pub(crate) const OWN: [&str; 4] = [VALUE_CHANGED, VALUE_DELETED, CACHE_CLEARED, DATA_RESTORED];

/// What is wrong with a topic that somebody wants to publish under.
pub(crate) fn check(topic: &str) -> Result<(), &'static str> {
    if topic.is_empty() || topic.len() > TOPIC_MAX {
        return Err("it has 1 to 256 bytes");
    }
    if OWN.contains(&topic) {
        return Err("under this one the bus tells its own changes");
    }
    Ok(())
}

/// A part of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// This character.
    Is(char),
    /// Any character.
    One,
    /// Any characters, or none.
    Any,
}

/// What topics somebody subscribes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() || text.len() > TOPIC_MAX {
            return Err("it has 1 to 256 bytes");
        }
        let (mut tokens, mut characters) = (Vec::new(), text.chars());
        while let Some(character) = characters.next() {
            let token = match character {
                '*' => Token::Any,
                '?' => Token::One,
                '\\' => Token::Is(characters.next().ok_or("its last `\\` takes nothing")?),
                character => Token::Is(character),
            };
            if token != Token::Any || tokens.last() != Some(&Token::Any) {
                tokens.push(token);
            }
        }
        if tokens.last() == Some(&Token::Is('/')) {
            tokens.push(Token::Any);
        }
        Ok(Self { tokens })
    }

    /// The bytes with which every topic begins that matches.
    pub(crate) fn prefix(&self) -> String {
        let literal = |token: &Token| match token {
            Token::Is(character) => Some(*character),
            _ => None,
        };
        self.tokens.iter().map_while(literal).collect()
    }

    /// Whether it matches a topic of the bus's own. One that begins with a wildcard is meant for what
    /// people publish: it does not.
    pub(crate) fn matches_own(&self, topic: &str) -> bool {
        matches!(self.tokens.first(), Some(Token::Is(_))) && self.matches(topic)
    }

    /// Whether it may match any of the bus's own topics.
    pub(crate) fn wants_own(&self) -> bool {
        OWN.iter().any(|topic| self.matches_own(topic))
    }

    /// Whether it matches a topic. Takes at most the product of both lengths: after a mismatch only the
    /// last `*` takes one character more.
    pub(crate) fn matches(&self, topic: &str) -> bool {
        let topic: Vec<char> = topic.chars().collect();
        let (mut token, mut at) = (0, 0);
        let mut retry = None;
        loop {
            let is_met = match (self.tokens.get(token), topic.get(at)) {
                (None, None) => return true,
                (Some(Token::Any), _) => {
                    retry = Some((token + 1, at));
                    token += 1;
                    continue;
                }
                (Some(Token::One), Some(_)) => true,
                (Some(Token::Is(wanted)), Some(found)) => wanted == found,
                _ => false,
            };
            if is_met {
                (token, at) = (token + 1, at + 1);
                continue;
            }
            match retry {
                Some((after, from)) if from < topic.len() => {
                    (token, at) = (after, from + 1);
                    retry = Some((after, from + 1));
                }
                _ => return false,
            }
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, topic: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(topic)
    }

    /// Plants: `*` that takes one character at least; no way back to it; `?` that takes a byte.
    #[test]
    fn patterns_choose_topics() {
        for (pattern, yes, no) in [
            ("a", vec!["a"], vec!["b", "aa", ""]),
            ("a*", vec!["a", "ab", "a/b/c"], vec!["ba"]),
            ("*b*c", vec!["bc", "xbxbxc", "abcc"], vec!["bcx", "b"]),
            ("a?c", vec!["abc", "aüc"], vec!["ac", "abbc"]),
            ("jobs/", vec!["jobs/", "jobs/1", "jobs/1/2"], vec!["jobs", "job/s"]),
            ("a\\*", vec!["a*"], vec!["ab", "a"]),
            ("**?", vec!["x", "xyz"], vec![""]),
        ] {
            for topic in yes {
                assert!(matches(pattern, topic), "{pattern} {topic}");
            }
            for topic in no {
                assert!(!matches(pattern, topic), "{pattern} {topic}");
            }
        }
        assert!(Pattern::new("").is_err() && Pattern::new("a\\").is_err());
        assert!(Pattern::new(&"x".repeat(257)).is_err() && Pattern::new(&"x".repeat(256)).is_ok());
        assert_eq!(Pattern::new("a\\?b*c").unwrap().prefix(), "a?b");
    }

    /// Plant: a pattern of wildcards alone wants what the bus tells of its keys.
    #[test]
    fn what_the_bus_tells_has_to_be_named() {
        let wants = |text| Pattern::new(text).unwrap().wants_own();
        assert!(wants("value_changed") && wants("value_*") && wants("cache?cleared"));
        assert!(!wants("*") && !wants("?alue_changed") && !wants("value"));
        assert!(check("value_changed").is_err() && check("").is_err() && check("x").is_ok());
        assert!(check(&"x".repeat(256)).is_ok() && check(&"x".repeat(257)).is_err());
    }

    /// All ways to match, tried one by one.
    fn slowly(pattern: &[Token], topic: &[char]) -> bool {
        match (pattern.split_first(), topic.split_first()) {
            (None, rest) => rest.is_none(),
            (Some((Token::Any, after)), rest) => {
                slowly(after, topic) || rest.is_some_and(|(_, rest)| slowly(pattern, rest))
            }
            (Some((Token::One, after)), Some((_, rest))) => slowly(after, rest),
            (Some((Token::Is(wanted), after)), Some((found, rest))) => {
                wanted == found && slowly(after, rest)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_trying_all(pattern in "[ab*?/]{1,8}", topic in "[ab/]{0,8}") {
            let made = Pattern::new(&pattern).unwrap();
            let characters: Vec<char> = topic.chars().collect();
            prop_assert_eq!(made.matches(&topic), slowly(&made.tokens, &characters));
            prop_assert!(!made.matches(&topic) || topic.starts_with(&made.prefix()));
        }
    }
}
