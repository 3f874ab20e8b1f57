//! Label selectors in the notation of Kubernetes: `a=b,c!=d,e in (x,y),f notin (z),g,!h`.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::str::CharIndices;

use remote_istio::model::is_dns_subdomain;

/// All requirements must hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Requirement {
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Exists(String),
    Absent(String),
}

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Something else was expected at this byte.
    #[error("at byte {at}: expected {expected}; write e.g. app=pilot or track in (stable,canary)")]
    Syntax {
        /// Bytes from the start.
        at: usize,
        /// What could stand there.
        expected: &'static str,
    },
    /// Not the name of a label.
    #[error(
        "{0:?} is no label key: an optional DNS prefix with '/', then at most 63 letters, digits, '-', '_' and '.' that start and end with a letter or digit"
    )]
    Key(String),
    /// Not the value of a label.
    #[error(
        "{0:?} is no label value: at most 63 letters, digits, '-', '_' and '.' that start and end with a letter or digit"
    )]
    Value(String),
}

impl Selector {
    /// Reads a selector that asks for at least one thing: an empty one would match every pod.
    ///
    /// # Errors
    /// The text is empty or does not follow the notation.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser::new(text);
        let mut requirements = vec![parser.requirement()?];
        while parser.take(',') {
            requirements.push(parser.requirement()?);
        }
        match parser.peek() {
            None => Ok(Self(requirements)),
            Some(_) => Err(parser.expected("',' or the end")),
        }
    }

    /// The selector of a Service; nothing where it has none.
    #[must_use]
    pub fn of_service(labels: &BTreeMap<String, String>) -> Option<Self> {
        let equals = |(key, value): (&String, &String)| Requirement::In(key.clone(), BTreeSet::from([value.clone()]));
        (!labels.is_empty()).then(|| Self(labels.iter().map(equals).collect()))
    }

    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Requirement::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
        })
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            rest: text.char_indices().peekable(),
        }
    }

    /// The next character that is no space.
    fn peek(&mut self) -> Option<char> {
        while self.rest.next_if(|(_, next)| next.is_ascii_whitespace()).is_some() {}
        self.rest.peek().map(|(_, next)| *next)
    }

    fn take(&mut self, wanted: char) -> bool {
        self.peek() == Some(wanted) && self.rest.next().is_some()
    }

    fn expected(&mut self, expected: &'static str) -> SelectorError {
        let at = self.rest.peek().map_or(self.text.len(), |(at, _)| *at);
        SelectorError::Syntax { at, expected }
    }

    fn word(&mut self) -> &'a str {
        let _ = self.peek();
        let start = self.rest.peek().map_or(self.text.len(), |(at, _)| *at);
        let in_word = |next: char| next.is_ascii_alphanumeric() || "-_./".contains(next);
        while self.rest.next_if(|(_, next)| in_word(*next)).is_some() {}
        let end = self.rest.peek().map_or(self.text.len(), |(at, _)| *at);
        &self.text[start..end]
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        if self.take('!') {
            return self.key().map(Requirement::Absent);
        }
        let key = self.key()?;
        match self.peek() {
            None | Some(',') => Ok(Requirement::Exists(key)),
            Some('=') => {
                self.rest.next();
                self.rest.next_if(|(_, next)| *next == '=');
                Ok(Requirement::In(key, BTreeSet::from([self.value()?])))
            }
            Some('!') => {
                self.rest.next();
                if self.rest.next_if(|(_, next)| *next == '=').is_none() {
                    return Err(self.expected("'=' after '!'"));
                }
                Ok(Requirement::NotIn(key, BTreeSet::from([self.value()?])))
            }
            Some(_) => self.set(key),
        }
    }

    fn set(&mut self, key: String) -> Result<Requirement, SelectorError> {
        let mut at_operator = self.rest.clone();
        let operator = self.word();
        if !matches!(operator, "in" | "notin") {
            std::mem::swap(&mut self.rest, &mut at_operator);
            return Err(self.expected("=, ==, !=, in, notin or ','"));
        }
        if !self.take('(') {
            return Err(self.expected("'(' and the values"));
        }
        let mut values = BTreeSet::from([self.value()?]);
        while self.take(',') {
            values.insert(self.value()?);
        }
        if !self.take(')') {
            return Err(self.expected("',' or ')'"));
        }
        Ok(if operator == "in" {
            Requirement::In(key, values)
        } else {
            Requirement::NotIn(key, values)
        })
    }

    fn key(&mut self) -> Result<String, SelectorError> {
        let key = self.word();
        if key.is_empty() {
            return Err(self.expected("a label key"));
        }
        let (prefix, name) = key
            .split_once('/')
            .map_or((None, key), |(prefix, name)| (Some(prefix), name));
        if is_label_name(name) && prefix.is_none_or(is_dns_subdomain) {
            Ok(key.to_owned())
        } else {
            Err(SelectorError::Key(key.to_owned()))
        }
    }

    /// A value may be empty.
    fn value(&mut self) -> Result<String, SelectorError> {
        let value = self.word();
        if value.is_empty() || is_label_name(value) {
            Ok(value.to_owned())
        } else {
            Err(SelectorError::Value(value.to_owned()))
        }
    }
}

fn is_label_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let at_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    bytes.len() <= 63 && at_end(bytes.first()) && at_end(bytes.last()) && bytes.iter().all(inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_a_selector_or_an_error(text in "[ab/.=!,() inotä<>-]{0,24}") {
            if let Err(SelectorError::Syntax { at, .. }) = Selector::parse(&text) {
                prop_assert!(text.is_char_boundary(at), "{} in {:?}", at, text);
            }
        }

        #[test]
        fn in_and_notin_of_the_same_values_part_all_pods_in_two(
            values in prop::collection::vec("[a-c]{0,2}", 1..4),
            label in prop::option::of("[a-c]{0,2}"),
        ) {
            let selected = |operator: &str| {
                let selector = Selector::parse(&format!("k {operator} ({})", values.join(", "))).expect("a selector");
                selector.matches(&label.iter().map(|value| ("k".to_owned(), value.clone())).collect())
            };
            prop_assert_eq!(selected("in"), label.as_ref().is_some_and(|label| values.contains(label)));
            prop_assert_ne!(selected("in"), selected("notin"));
        }
    }

    fn labels(text: &str) -> BTreeMap<String, String> {
        let pair = |pair: &str| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        text.split(',').filter_map(pair).collect()
    }

    fn matches(selector: &str, of: &str) -> bool {
        Selector::parse(selector).expect(selector).matches(&labels(of))
    }

    #[test]
    fn each_kind_of_requirement_selects_what_kubernetes_selects() {
        for (selector, selected, others) in [
            (
                "istio=pilot",
                vec!["istio=pilot", "istio=pilot,x=y"],
                vec!["", "istio=x", "other=pilot"],
            ),
            (" istio == pilot ", vec!["istio=pilot"], vec!["istio="]),
            ("a=", vec!["a="], vec!["", "a=b"]),
            ("a!=b", vec!["", "a=c", "a="], vec!["a=b"]),
            ("a in (x, y)", vec!["a=x", "a=y"], vec!["", "a=z"]),
            ("a notin (x,y)", vec!["", "a=z"], vec!["a=x", "a=y"]),
            (
                "statsd-prom-bridge",
                vec!["statsd-prom-bridge="],
                vec!["", "app=statsd-prom-bridge"],
            ),
            ("!d", vec!["", "a=d"], vec!["d=", "d=x"]),
            (
                "a=b,c in (x,y),!d,e",
                vec!["a=b,c=y,e="],
                vec!["a=b,c=y", "a=b,c=y,e=,d=", "a=b,c=z,e="],
            ),
            (
                "app.kubernetes.io/name=pilot",
                vec!["app.kubernetes.io/name=pilot"],
                vec!["name=pilot"],
            ),
            ("in in (in)", vec!["in=in"], vec!["in=out"]),
        ] {
            for of in selected {
                assert!(matches(selector, of), "{selector} must select {of:?}");
            }
            for of in others {
                assert!(!matches(selector, of), "{selector} must not select {of:?}");
            }
        }
    }

    #[test]
    fn text_that_is_no_selector_is_refused() {
        for text in [
            "",
            " ",
            ",",
            "a=b,",
            ",a",
            "a b",
            "a=b c",
            "=b",
            "a===b",
            "a!b",
            "!",
            "!a=b",
            "a in",
            "a in x",
            "a in (x",
            "a in (x y)",
            "a in x)",
            "a>1",
            "-a=b",
            "a=-b",
            "a=b/c",
            "/a",
            "a/",
            "a/b/c",
            "A.B/c",
            "ä=b",
            "a=b;c=d",
            "a inn (b)",
        ] {
            assert!(Selector::parse(text).is_err(), "{text:?}");
        }
        assert!(Selector::parse(&"a".repeat(64)).is_err());
    }

    #[test]
    fn error_says_where_and_what_to_write() {
        let error = Selector::parse("istio pilot").expect_err("no operator");
        assert_eq!(
            error.to_string(),
            "at byte 6: expected =, ==, !=, in, notin or ','; write e.g. app=pilot or track in (stable,canary)"
        );
    }

    #[test]
    fn service_without_selector_selects_nothing() {
        assert_eq!(Selector::of_service(&BTreeMap::new()), None);
        let selector = Selector::of_service(&labels("a=b,c=d")).expect("two labels");
        assert!(selector.matches(&labels("a=b,c=d,e=f")));
        assert!(!selector.matches(&labels("a=b")));
    }
}
