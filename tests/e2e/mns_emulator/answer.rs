//! The XML that the service answers, in all the shapes that were seen of it.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};

use super::queue::{Attributes, HandleError, Queue, Stored, md5_hex};

/// How an answer is written; none of this means anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    pub trailing_slash: bool,
    pub shuffled: bool,
    pub extra: bool,
    pub wrong_md5: bool,
    pub odd_message: bool,
}

pub type Answer = Response<Full<Bytes>>;

/// An element of plain text, escaped so that it is a single node.
fn element(name: &str, text: &str) -> String {
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\r', "&#13;");
    format!("<{name}>{text}</{name}>")
}

fn document(name: &str, content: &str, style: Style) -> String {
    let slash = if style.trailing_slash { "/" } else { "" };
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<{name} xmlns=\"http://mns.aliyuncs.com/doc/v1{slash}\">{content}</{name}>\n"
    )
}

fn joined(mut elements: Vec<String>, style: Style) -> String {
    if style.extra {
        elements.push("<Unheard><Of>1</Of></Unheard>".to_owned());
    }
    if style.shuffled {
        use rand::seq::SliceRandom as _;
        elements.shuffle(&mut rand::rng());
    }
    elements.concat()
}

/// A received or peeked message without its document.
pub fn message(message: &Stored, peeked: bool, style: Style) -> String {
    let md5 = if style.wrong_md5 {
        md5_hex(b"something else")
    } else {
        md5_hex(message.body.as_bytes())
    };
    let first = message.first_dequeued.unwrap_or(message.enqueued);
    let mut elements = vec![
        element("MessageId", &message.id),
        element("MessageBodyMD5", &md5.to_uppercase()),
        element("MessageBody", &message.body),
        element("EnqueueTime", &message.enqueued.to_string()),
        element("FirstDequeueTime", &first.to_string()),
        element("DequeueCount", &message.receives.to_string()),
        element("Priority", &message.priority.to_string()),
    ];
    if !peeked {
        elements.push(element("ReceiptHandle", &message.handle));
        elements.push(element(
            "NextVisibleTime",
            &message.next_visible.to_string(),
        ));
    }
    format!("<Message>{}</Message>", joined(elements, style))
}

/// One message, or several in their document.
pub fn messages(all: &[Stored], batch: bool, peeked: bool, style: Style) -> Answer {
    let mut content: String = all.iter().map(|one| message(one, peeked, style)).collect();
    let text = if batch {
        if style.odd_message {
            content.insert_str(0, "<Message><MessageId>0</MessageId></Message>");
        }
        document("Messages", &content, style)
    } else {
        let inner = content
            .trim_start_matches("<Message>")
            .trim_end_matches("</Message>");
        document("Message", inner, style)
    };
    xml(StatusCode::OK, text)
}

pub fn sent(all: &[Stored], batch: bool, delayed: bool) -> Answer {
    let one = |message: &Stored| {
        let mut elements = vec![
            element("MessageId", &message.id),
            element(
                "MessageBodyMD5",
                &md5_hex(message.body.as_bytes()).to_uppercase(),
            ),
        ];
        if delayed {
            elements.push(element("ReceiptHandle", &message.handle));
        }
        elements.concat()
    };
    let style = Style::default();
    let text = if batch {
        let content: String = all
            .iter()
            .map(|message| format!("<Message>{}</Message>", one(message)))
            .collect();
        document("Messages", &content, style)
    } else {
        document("Message", &all.iter().map(one).collect::<String>(), style)
    };
    xml(StatusCode::CREATED, text)
}

pub fn changed(handle: &str, next_visible: i64, style: Style) -> Answer {
    let elements = vec![
        element("ReceiptHandle", handle),
        element("NextVisibleTime", &next_visible.to_string()),
    ];
    xml(
        StatusCode::OK,
        document("ChangeVisibility", &joined(elements, style), style),
    )
}

pub fn attributes(name: &str, queue: &Queue) -> Answer {
    let Attributes {
        visibility_timeout,
        maximum_message_size,
        retention,
        delay,
        polling_wait,
        logging,
    } = queue.attributes.clone();
    let (active, inactive, delayed) = queue.counts();
    let created = queue.created / 1000;
    let content = [
        element("QueueName", name),
        element("CreateTime", &created.to_string()),
        element("LastModifyTime", &created.to_string()),
        element("VisibilityTimeout", &visibility_timeout.to_string()),
        element("MaximumMessageSize", &maximum_message_size.to_string()),
        element("MessageRetentionPeriod", &retention.to_string()),
        element("DelaySeconds", &delay.to_string()),
        element("PollingWaitSeconds", &polling_wait.to_string()),
        element("LoggingEnabled", if logging { "True" } else { "False" }),
        element("ActiveMessages", &active.to_string()),
        element("InactiveMessages", &inactive.to_string()),
        element("DelayMessages", &delayed.to_string()),
    ];
    xml(
        StatusCode::OK,
        document("Queue", &content.concat(), Style::default()),
    )
}

pub fn queue_list(base: &str, names: &[String]) -> Answer {
    let queue = |name: &String| {
        let url = element("QueueURL", &format!("{base}/queues/{name}"));
        format!("<Queue>{url}</Queue>")
    };
    let content: String = names.iter().map(queue).collect();
    xml(
        StatusCode::OK,
        document("Queues", &content, Style::default()),
    )
}

/// What a failed request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    pub status: u16,
    pub code: &'static str,
}

impl Failure {
    pub const fn new(status: u16, code: &'static str) -> Self {
        Self { status, code }
    }

    fn text(self) -> &'static str {
        match self.code {
            "MessageNotExist" => "Message not exist.",
            "ReceiptHandleError" => "The receipt handle you provide is not valid.",
            "QueueNotExist" => "The queue name you provided is not exist.",
            "TimeExpired" => "The http request you sent is expired.",
            _ => "The request was refused.",
        }
    }

    pub fn answer(self, request_id: &str) -> Answer {
        let content = [
            element("Code", self.code),
            element("Message", self.text()),
            element("RequestId", request_id),
            element("HostId", "http://127.0.0.1"),
        ];
        let status = StatusCode::from_u16(self.status).expect("a status");
        xml(
            status,
            document("Error", &content.concat(), Style::default()),
        )
    }
}

impl From<HandleError> for Failure {
    fn from(error: HandleError) -> Self {
        match error {
            HandleError::Gone => Self::new(404, "MessageNotExist"),
            HandleError::Invalid => Self::new(400, "ReceiptHandleError"),
        }
    }
}

/// The messages of a batch that were not deleted, and why.
pub fn not_deleted(failed: &[(String, Failure)]) -> Answer {
    let one = |(handle, failure): &(String, Failure)| {
        let content = [
            element("ErrorCode", failure.code),
            element("ErrorMessage", failure.text()),
            element("ReceiptHandle", handle),
        ];
        format!("<Error>{}</Error>", content.concat())
    };
    let content: String = failed.iter().map(one).collect();
    let style = Style {
        trailing_slash: true,
        ..Style::default()
    };
    xml(StatusCode::NOT_FOUND, document("Errors", &content, style))
}

pub fn xml(status: StatusCode, text: String) -> Answer {
    let answer = Response::builder()
        .status(status)
        .header("content-type", "text/xml;charset=utf-8")
        .body(Full::new(text.into()));
    answer.expect("an answer")
}

pub fn empty(status: StatusCode) -> Answer {
    let answer = Response::builder()
        .status(status)
        .body(Full::new(Bytes::new()));
    answer.expect("an answer")
}
