//! The XML of the MNS API, as a small tree.
//!
//! Elements are known by their local names: captured answers differ in their
//! namespaces, in the order of elements, and in elements nobody documented. A
//! document type is refused, so that no entity but the five of XML itself is
//! ever replaced.

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesRef, Event};

/// Answers are three levels deep; what is much deeper is no answer of MNS.
const DEPTH_MAX: usize = 16;

/// One element with its text and the elements inside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// The name without its namespace prefix.
    pub name: String,
    /// All text directly inside, unescaped. Line ends stay as they came, since
    /// a message's MD5 counts them.
    pub text: String,
    /// The elements inside, in their order.
    pub children: Vec<Element>,
}

/// A text that is no XML of MNS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// Not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// Not well-formed.
    #[error("it is no XML: {0}")]
    Broken(String),
    /// The text ended inside an element, or before the first.
    #[error("it is cut short")]
    Truncated,
    /// A document type, which could define entities.
    #[error("it has a document type, which MNS never sends")]
    DocumentType,
    /// An entity that XML itself does not define.
    #[error("it has an entity that is none of XML's own")]
    Entity,
    /// Deeper than any answer.
    #[error("its elements are more than {DEPTH_MAX} levels deep")]
    TooDeep,
    /// Something behind the root element.
    #[error("something follows its root element")]
    Trailing,
}

impl Element {
    /// Reads a whole document.
    ///
    /// # Errors
    /// [`XmlError`].
    pub fn parse(document: &[u8]) -> Result<Self, XmlError> {
        let text = std::str::from_utf8(document).map_err(|_| XmlError::NotUtf8)?;
        let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
        reader.config_mut().expand_empty_elements = true;
        let mut open: Vec<Self> = Vec::new();
        let mut root = None;
        loop {
            let event = reader.read_event().map_err(broken)?;
            match event {
                Event::Start(start) => {
                    if root.is_some() {
                        return Err(XmlError::Trailing);
                    }
                    if open.len() == DEPTH_MAX {
                        return Err(XmlError::TooDeep);
                    }
                    open.push(Self::named(start.local_name().as_ref()));
                }
                Event::End(_) => {
                    // The reader has checked that it ends what was opened last.
                    let done = open.pop().ok_or(XmlError::Truncated)?;
                    match open.last_mut() {
                        Some(parent) => parent.children.push(done),
                        None => root = Some(done),
                    }
                }
                Event::Text(text) => put(&mut open, &text)?,
                Event::CData(text) => put(&mut open, &text)?,
                Event::GeneralRef(entity) => put(&mut open, &resolve(&entity)?)?,
                Event::DocType(_) => return Err(XmlError::DocumentType),
                Event::Eof if open.is_empty() => return root.ok_or(XmlError::Truncated),
                Event::Eof => return Err(XmlError::Truncated),
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) | Event::Empty(_) => {}
            }
        }
    }

    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// The text of the first element of this name inside this one.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        let mut children = self.children.iter();
        let child = children.find(|child| child.name == name)?;
        Some(child.text.as_str())
    }

    /// The elements of this name inside this one.
    pub fn named_children<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }
}

/// `text` with what XML would take for markup escaped.
pub fn escaped(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

fn put(open: &mut [Element], text: &str) -> Result<(), XmlError> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err(XmlError::Broken("text outside the root element".to_owned())),
    }
    Ok(())
}

fn resolve(entity: &BytesRef<'_>) -> Result<String, XmlError> {
    if let Some(character) = entity.resolve_char_ref().map_err(broken)? {
        return Ok(character.to_string());
    }
    resolve_xml_entity(entity)
        .map(str::to_owned)
        .ok_or(XmlError::Entity)
}

fn broken(error: quick_xml::Error) -> XmlError {
    match error {
        quick_xml::Error::Syntax(_) => XmlError::Truncated,
        other => XmlError::Broken(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Element, XmlError> {
        Element::parse(text.as_bytes())
    }

    #[test]
    fn names_are_local_and_order_does_not_matter() {
        let plain = "<Message><MessageId>1</MessageId><Priority>8</Priority></Message>";
        for text in [
            plain,
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<Message xmlns=\"http://mns.aliyuncs.com/doc/v1/\">\n <Priority>8</Priority><MessageId>1</MessageId>\n</Message>\n",
            "\u{feff}<m:Message xmlns:m=\"http://mns.aliyuncs.com/doc/v1\"><m:New/><m:MessageId>1</m:MessageId><m:Priority>8</m:Priority></m:Message>",
            "<Message><!-- x --><MessageId><![CDATA[1]]></MessageId><Priority>&#56;</Priority></Message>",
        ] {
            let message = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(message.name, "Message");
            assert_eq!(message.text_of("MessageId"), Some("1"), "{text}");
            assert_eq!(message.text_of("Priority"), Some("8"), "{text}");
            assert_eq!(message.text_of("Nothing"), None);
        }
    }

    #[test]
    fn text_is_unescaped_and_otherwise_untouched() {
        let body = "<M> {\"a\":\"&lt;b&gt; &amp;amp; &quot;&apos;\"}&#13;\r\n&#x9;测试 </M>";
        let expected = " {\"a\":\"<b> &amp; \"'\"}\r\r\n\t测试 ";
        assert_eq!(parse(body).unwrap().text, expected);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><M>&b;</M>";
        let deep = "<a>".repeat(5000);
        for (text, expected) in [
            ("", XmlError::Truncated),
            ("   ", XmlError::Truncated),
            ("<M><A>1</A>", XmlError::Truncated),
            ("<M><A>1</", XmlError::Truncated),
            ("<M", XmlError::Truncated),
            (bomb, XmlError::DocumentType),
            ("<!DOCTYPE html><html></html>", XmlError::DocumentType),
            ("<M>&b;</M>", XmlError::Entity),
            ("<M>&nbsp;</M>", XmlError::Entity),
            ("<M/><M/>", XmlError::Trailing),
            (deep.as_str(), XmlError::TooDeep),
        ] {
            assert_eq!(parse(text), Err(expected), "{text:.40}");
        }
        for text in [
            "not XML",
            "<html><body><br>x</body></html>",
            "{}",
            "<M></N>",
            "<M>&#0;</M>",
            "<M>a & b</M>",
        ] {
            assert!(
                matches!(parse(text), Err(XmlError::Broken(_))),
                "{text}: {:?}",
                parse(text)
            );
        }
        assert_eq!(Element::parse(b"<M>\xff</M>"), Err(XmlError::NotUtf8));
    }

    proptest! {
        #[test]
        fn what_is_escaped_comes_back(text in "\\PC{0,200}") {
            let document = format!("<M>{}</M>", escaped(&text));
            prop_assert_eq!(parse(&document).unwrap().text, text);
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = parse(&text);
            let _ = parse(&format!("<Error><Code>{text}"));
        }
    }
}
