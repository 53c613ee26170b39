//! What MNS answers, read from XML.

use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::Timestamp;

use super::error::printable;
use super::xml::{Element, XmlError};

/// The longest id of a message that is kept, in bytes; those of MNS have 32.
const ID_BYTES_MAX: usize = 128;

/// How much of an element's name is shown.
const NAME_BYTES_MAX: usize = 64;

/// How long MNS can keep a message invisible.
const VISIBILITY_SECONDS: RangeInclusive<u64> = 1..=12 * 3600;

/// One received message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Unique in its queue.
    pub id: String,
    /// Good for one delete or one change of visibility.
    pub handle: String,
    /// The text as transferred.
    pub body: String,
    /// The MD5 of that text in hex, where MNS states it.
    pub body_md5: Option<String>,
    /// When it was sent.
    pub enqueued_at: Option<Timestamp>,
    /// When it becomes visible again, by the clock of the service.
    pub next_visible_at: Option<Timestamp>,
    /// How often it was received, this time included.
    pub receives: u32,
}

/// The attributes of a queue that matter to a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// How long a received message stays invisible.
    pub visibility_timeout: Option<Duration>,
}

/// A message with a new handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The only good handle from now on.
    pub handle: String,
}

/// One message that a batch did not delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotDeleted {
    /// Its handle.
    pub handle: String,
    /// The code of MNS.
    pub code: super::Code,
}

/// An answer that is XML, but not the expected one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It is no XML of MNS.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// Another document.
    #[error("<{0}> was not expected")]
    Root(String),
    /// An element that cannot be done without.
    #[error("<{0}> is missing")]
    Missing(&'static str),
}

impl AnswerError {
    /// Names may be as long as the answer.
    fn root(root: &Element) -> Self {
        Self::Root(printable(&root.name, NAME_BYTES_MAX))
    }
}

/// Reads `<Messages>`, or a single `<Message>`; answers how many messages
/// could not be read as well. They do not keep the others from being stored,
/// and are an error only where there is no other.
pub(super) fn messages(document: &[u8]) -> Result<(Vec<Message>, usize), AnswerError> {
    let root = Element::parse(document)?;
    let all: Vec<&Element> = match root.name.as_str() {
        "Messages" => root.named_children("Message").collect(),
        "Message" => vec![&root],
        _ => return Err(AnswerError::root(&root)),
    };
    let mut read = Vec::with_capacity(all.len());
    let mut unreadable = Vec::new();
    for element in all {
        match message(element) {
            Ok(message) => read.push(message),
            Err(error) => unreadable.push(error),
        }
    }
    match unreadable.pop() {
        Some(error) if read.is_empty() => Err(error),
        last => Ok((read, unreadable.len() + usize::from(last.is_some()))),
    }
}

fn message(element: &Element) -> Result<Message, AnswerError> {
    let needed = |name| {
        let text = element.text_of(name);
        text.map(str::to_owned).ok_or(AnswerError::Missing(name))
    };
    let trimmed = |name| element.text_of(name).map(str::trim);
    let instant = |name| {
        let millis = trimmed(name)?.parse().ok()?;
        Timestamp::from_millisecond(millis).ok()
    };
    Ok(Message {
        id: printable(trimmed("MessageId").unwrap_or_default(), ID_BYTES_MAX),
        handle: needed("ReceiptHandle")?.trim().to_owned(),
        body: needed("MessageBody")?,
        body_md5: trimmed("MessageBodyMD5").map(str::to_owned),
        enqueued_at: instant("EnqueueTime"),
        next_visible_at: instant("NextVisibleTime"),
        receives: trimmed("DequeueCount")
            .and_then(|count| count.parse().ok())
            .unwrap_or(1),
    })
}

/// Reads the answer to a change of visibility, whatever its root is called.
pub(super) fn changed(document: &[u8]) -> Result<Changed, AnswerError> {
    let root = Element::parse(document)?;
    let handle = root
        .text_of("ReceiptHandle")
        .ok_or(AnswerError::Missing("ReceiptHandle"))?;
    Ok(Changed {
        handle: handle.trim().to_owned(),
    })
}

/// Reads `<Queue>`.
pub(super) fn attributes(document: &[u8]) -> Result<Attributes, AnswerError> {
    let root = Element::parse(document)?;
    if root.name != "Queue" {
        return Err(AnswerError::root(&root));
    }
    let seconds = root.text_of("VisibilityTimeout");
    let seconds = seconds.and_then(|text| text.trim().parse().ok());
    Ok(Attributes {
        visibility_timeout: seconds
            .filter(|seconds| VISIBILITY_SECONDS.contains(seconds))
            .map(Duration::from_secs),
    })
}

/// A refusal: of the whole request, or of some messages of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Whole { code: String, request_id: String },
    Parts(Vec<NotDeleted>),
}

/// Reads `<Error>` or `<Errors>`.
pub(super) fn refused(document: &[u8]) -> Result<Refused, AnswerError> {
    let root = Element::parse(document)?;
    match root.name.as_str() {
        "Error" => Ok(Refused::Whole {
            code: root
                .text_of("Code")
                .ok_or(AnswerError::Missing("Code"))?
                .to_owned(),
            request_id: root.text_of("RequestId").unwrap_or_default().to_owned(),
        }),
        "Errors" => {
            let part = |error: &Element| {
                let text = |name| error.text_of(name).ok_or(AnswerError::Missing(name));
                Ok(NotDeleted {
                    handle: text("ReceiptHandle")?.trim().to_owned(),
                    code: super::Code::from_text(text("ErrorCode")?),
                })
            };
            let parts: Result<Vec<NotDeleted>, AnswerError> =
                root.named_children("Error").map(part).collect();
            let parts = parts?;
            if parts.is_empty() {
                // It was refused, and nobody says what of it.
                return Err(AnswerError::Missing("Error"));
            }
            Ok(Refused::Parts(parts))
        }
        _ => Err(AnswerError::root(&root)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mns::Code;

    const MESSAGE: &str = "<Message><MessageId>5F290C926D472878-2-14D9529A8FA-200000001</MessageId>\
        <MessageBodyMD5>9D75198CAA17528AB23790C1861987AF</MessageBodyMD5><MessageBody>a &lt; b</MessageBody>\
        <ReceiptHandle>1-ODU4OTkzNDU5My0xNDM1MTk3NjAwLTItNg==</ReceiptHandle><EnqueueTime>1435197600000</EnqueueTime>\
        <FirstDequeueTime>1435197601000</FirstDequeueTime><NextVisibleTime>1435197631000</NextVisibleTime>\
        <DequeueCount>3</DequeueCount><Priority>8</Priority></Message>";

    #[test]
    fn messages_are_read_alone_and_in_batches() {
        let (one, _) = messages(MESSAGE.as_bytes()).unwrap();
        let batch = format!(
            "<Messages xmlns=\"http://mns.aliyuncs.com/doc/v1\">{MESSAGE}{MESSAGE}</Messages>"
        );
        let (two, unreadable) = messages(batch.as_bytes()).unwrap();
        assert_eq!((one.len(), two.len(), unreadable), (1, 2, 0));
        let message = &one[0];
        assert_eq!(message, &two[1]);
        assert_eq!(message.body, "a < b");
        assert_eq!(message.receives, 3);
        let (sent, visible) = (
            message.enqueued_at.unwrap(),
            message.next_visible_at.unwrap(),
        );
        assert_eq!(visible.duration_since(sent).as_secs(), 31);
    }

    #[test]
    fn what_cannot_be_done_without_is_missed_by_name() {
        let without = |name: &str| {
            let (before, rest) = MESSAGE.split_once(&format!("<{name}>")).unwrap();
            let (_, after) = rest.split_once(&format!("</{name}>")).unwrap();
            messages(format!("{before}{after}").as_bytes())
        };
        for name in ["ReceiptHandle", "MessageBody"] {
            assert_eq!(without(name), Err(AnswerError::Missing(name)));
        }
        for name in [
            "MessageBodyMD5",
            "EnqueueTime",
            "DequeueCount",
            "NextVisibleTime",
        ] {
            assert_eq!(without(name).unwrap().0.len(), 1, "{name}");
        }
        let odd = "<Message><MessageId>2</MessageId></Message>";
        let batch = format!("<Messages>{odd}{MESSAGE}{odd}</Messages>");
        let (read, unreadable) = messages(batch.as_bytes()).unwrap();
        assert_eq!((read.len(), unreadable), (1, 2), "the others are read");
        let other = messages(b"<Queues/>");
        assert_eq!(other, Err(AnswerError::Root("Queues".to_owned())));
    }

    #[test]
    fn refusals_are_told_apart_by_their_root() {
        let whole = b"<?xml version=\"1.0\"?><Error xmlns=\"x\"><Code>QueueNotExist</Code><Message>m</Message><RequestId>51</RequestId></Error>";
        assert_eq!(
            refused(whole).unwrap(),
            Refused::Whole {
                code: "QueueNotExist".to_owned(),
                request_id: "51".to_owned()
            }
        );
        let parts = b"<Errors><Error><ErrorCode>ReceiptHandleError</ErrorCode><ErrorMessage>m</ErrorMessage><ReceiptHandle>H2</ReceiptHandle></Error></Errors>";
        let expected = NotDeleted {
            handle: "H2".to_owned(),
            code: Code::ReceiptHandleError,
        };
        assert_eq!(refused(parts).unwrap(), Refused::Parts(vec![expected]));
        assert!(
            refused(b"<Errors></Errors>").is_err(),
            "nothing is said of any"
        );
        assert!(refused(b"<html></html>").is_err());
        assert!(refused(b"").is_err());
    }

    #[test]
    fn numbers_and_ids_that_mean_nothing_have_their_limits() {
        for (seconds, expected) in [
            ("30", Some(30)),
            (" 43200 ", Some(43_200)),
            ("43201", None),
            ("0", None),
            ("18446744073709551615", None),
            ("-1", None),
            ("soon", None),
        ] {
            let document =
                format!("<Queue><VisibilityTimeout>{seconds}</VisibilityTimeout></Queue>");
            let read = attributes(document.as_bytes()).unwrap().visibility_timeout;
            assert_eq!(read.map(|read| read.as_secs()), expected, "{seconds}");
        }
        let id = format!("\n{}", "x".repeat(10_000));
        let document = MESSAGE.replace("5F290C926D472878-2-14D9529A8FA-200000001", &id);
        let (read, _) = messages(document.as_bytes()).unwrap();
        assert_eq!(read[0].id, "x".repeat(ID_BYTES_MAX));
    }

    #[test]
    fn the_answer_to_a_change_has_either_root() {
        for root in ["ChangeVisibility", "Message"] {
            let document = format!(
                "<{root}><NextVisibleTime>1</NextVisibleTime><ReceiptHandle>n</ReceiptHandle></{root}>"
            );
            assert_eq!(changed(document.as_bytes()).unwrap().handle, "n");
        }
    }
}
