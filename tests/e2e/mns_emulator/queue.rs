//! One queue: its messages, what is visible when, and which handles are good.

use std::collections::{BTreeSet, HashMap};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use md5::{Digest as _, Md5};

/// A message as the service keeps it. Times are milliseconds since 1970.
#[derive(Debug, Clone)]
pub struct Stored {
    pub id: String,
    pub body: String,
    pub enqueued: i64,
    pub first_dequeued: Option<i64>,
    pub next_visible: i64,
    pub receives: u32,
    pub priority: u8,
    pub handle: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    pub visibility_timeout: i64,
    pub maximum_message_size: i64,
    pub retention: i64,
    pub delay: i64,
    pub polling_wait: i64,
    pub logging: bool,
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            visibility_timeout: 30,
            maximum_message_size: 65_536,
            retention: 345_600,
            delay: 0,
            polling_wait: 0,
            logging: false,
        }
    }
}

#[derive(Debug, Default)]
pub struct Queue {
    pub attributes: Attributes,
    pub created: i64,
    /// Where a message goes after so many receives without a delete.
    pub dead_letter: Option<(String, u32)>,
    messages: HashMap<u64, Stored>,
    handles: HashMap<String, u64>,
    /// By priority, then by age.
    visible: BTreeSet<(u8, u64)>,
    /// By the time at which they become visible.
    hidden: BTreeSet<(i64, u64)>,
    next: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandleError {
    Gone,
    Invalid,
}

impl Queue {
    pub fn new(attributes: Attributes, created: i64) -> Self {
        Self {
            attributes,
            created,
            ..Self::default()
        }
    }

    pub fn send(&mut self, body: String, delay: i64, priority: u8, now: i64) -> Stored {
        let message = Stored {
            id: format!("{:032X}", rand::random::<u128>()),
            body,
            enqueued: now,
            first_dequeued: None,
            next_visible: now + delay * 1000,
            receives: 0,
            priority,
            handle: new_handle(),
        };
        self.put(message.clone(), now);
        message
    }

    pub fn put(&mut self, message: Stored, now: i64) {
        let number = self.next;
        self.next += 1;
        if message.next_visible > now {
            self.hidden.insert((message.next_visible, number));
        } else {
            self.visible.insert((message.priority, number));
        }
        self.handles.insert(message.handle.clone(), number);
        self.messages.insert(number, message);
    }

    /// Brings back what has become visible, forgets what is too old, and
    /// answers what goes to the dead-letter queue.
    pub fn turn(&mut self, now: i64) -> Vec<Stored> {
        let mut dead = Vec::new();
        while let Some((at, number)) = self.hidden.first().copied() {
            if at > now {
                break;
            }
            self.hidden.pop_first();
            let Some(message) = self.messages.get(&number) else {
                continue;
            };
            let spent = self.dead_letter.as_ref();
            if spent.is_some_and(|(_, receives)| message.receives >= *receives) {
                dead.extend(self.remove(number));
            } else {
                self.visible.insert((message.priority, number));
            }
        }
        let oldest = now - self.attributes.retention * 1000;
        // Messages are numbered by age, but for those that came from elsewhere.
        if self.messages.len() < 1000 {
            let expired: Vec<u64> = self
                .messages
                .iter()
                .filter(|(_, message)| message.enqueued < oldest)
                .map(|(number, _)| *number)
                .collect();
            for number in expired {
                self.remove(number);
            }
        }
        dead
    }

    pub fn receive(&mut self, count: usize, now: i64) -> Vec<Stored> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let Some((_, number)) = self.visible.pop_first() else {
                break;
            };
            let Some(message) = self.messages.get_mut(&number) else {
                continue;
            };
            self.handles.remove(&message.handle);
            message.handle = new_handle();
            message.receives += 1;
            message.first_dequeued.get_or_insert(now);
            message.next_visible = now + self.attributes.visibility_timeout * 1000;
            self.handles.insert(message.handle.clone(), number);
            self.hidden.insert((message.next_visible, number));
            taken.push(message.clone());
        }
        taken
    }

    pub fn peek(&self, count: usize) -> Vec<Stored> {
        let numbers = self.visible.iter().take(count);
        numbers
            .filter_map(|(_, number)| self.messages.get(number).cloned())
            .collect()
    }

    /// The message that a handle is good for now.
    pub fn held(&self, handle: &str, now: i64) -> Result<&Stored, HandleError> {
        let number = self.handles.get(handle).ok_or(HandleError::Invalid)?;
        let message = self.messages.get(number).ok_or(HandleError::Gone)?;
        if now < message.next_visible {
            Ok(message)
        } else {
            Err(HandleError::Invalid)
        }
    }

    pub fn delete(&mut self, handle: &str, now: i64) -> Result<Stored, HandleError> {
        self.held(handle, now)?;
        let number = self.handles[handle];
        self.remove(number).ok_or(HandleError::Gone)
    }

    pub fn change(
        &mut self,
        handle: &str,
        seconds: i64,
        now: i64,
    ) -> Result<(String, i64), HandleError> {
        self.held(handle, now)?;
        let number = self.handles[handle];
        self.handles.remove(handle);
        let message = self.messages.get_mut(&number).ok_or(HandleError::Gone)?;
        self.hidden.remove(&(message.next_visible, number));
        message.next_visible = now + seconds * 1000;
        message.handle = new_handle();
        self.hidden.insert((message.next_visible, number));
        self.handles.insert(message.handle.clone(), number);
        Ok((message.handle.clone(), message.next_visible))
    }

    /// Hands a message out a second time, as the service may.
    pub fn show_again(&mut self, handle: &str) {
        let Some(number) = self.handles.get(handle).copied() else {
            return;
        };
        if let Some(message) = self.messages.get(&number) {
            self.hidden.remove(&(message.next_visible, number));
            self.visible.insert((message.priority, number));
        }
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn all(&self) -> impl Iterator<Item = &Stored> {
        self.messages.values()
    }

    pub fn has_visible(&self) -> bool {
        !self.visible.is_empty()
    }

    /// Active, inactive and delayed messages.
    pub fn counts(&self) -> (usize, usize, usize) {
        let delayed = |(_, number): &&(i64, u64)| self.messages[number].receives == 0;
        let delayed = self.hidden.iter().filter(delayed).count();
        (self.visible.len(), self.hidden.len() - delayed, delayed)
    }

    /// When the next hidden message becomes visible.
    pub fn next_change(&self) -> Option<i64> {
        self.hidden.first().map(|(at, _)| *at)
    }

    fn remove(&mut self, number: u64) -> Option<Stored> {
        let message = self.messages.remove(&number)?;
        self.handles.remove(&message.handle);
        self.visible.remove(&(message.priority, number));
        self.hidden.remove(&(message.next_visible, number));
        Some(message)
    }
}

/// With every character that a careless client would send or sign wrongly.
fn new_handle() -> String {
    let random = rand::random::<[u8; 16]>();
    format!("1-+/{}", BASE64_STANDARD.encode(random))
}

pub fn md5_hex(bytes: &[u8]) -> String {
    Md5::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
