//! Looks things up in the schema: which rules hold at a place of a tree.

use std::sync::LazyLock;

use serde_json::{Map, Value};

/// The schema with its look-ups.
#[derive(Debug)]
pub(crate) struct Schema {
    document: &'static Value,
}

/// Made once: a program may read many configurations.
static DOCUMENT: LazyLock<Value> = LazyLock::new(super::document);

/// All that the schema says about one place of a tree, most general first.
#[derive(Debug, Clone)]
pub(crate) struct Node<'s> {
    parts: Vec<&'s Value>,
}

impl Schema {
    pub(crate) fn new() -> Self {
        Self {
            document: &DOCUMENT,
        }
    }

    pub(crate) fn document(&self) -> &'static Value {
        self.document
    }

    /// What holds for a whole tree.
    pub(crate) fn root(&self, tree: &Value) -> Node<'_> {
        self.node(vec![self.document], tree)
    }

    /// What holds at `path` of `tree`, whether there is something or not.
    pub(crate) fn at<'p>(&self, tree: &Value, path: impl IntoIterator<Item = &'p str>) -> Node<'_> {
        let mut instance = tree;
        let mut node = self.root(tree);
        for key in path {
            instance = step(instance, key).unwrap_or(&Value::Null);
            node = self.child(&node, key, instance);
        }
        node
    }

    /// What holds for `instance`, the value of `key` in a table or list with `node`.
    pub(crate) fn child<'s>(&'s self, node: &Node<'s>, key: &str, instance: &Value) -> Node<'s> {
        let named = |part: &&'s Value| part["properties"].get(key);
        let mut parts: Vec<&Value> = node.parts.iter().filter_map(named).collect();
        if parts.is_empty() {
            let any = |part: &&'s Value| part.get("additionalProperties").or(part.get("items"));
            parts = node.parts.iter().filter_map(any).collect();
        }
        parts.retain(|part| part.is_object());
        self.node(parts, instance)
    }

    /// Writes every default into `tree` where nothing stands yet.
    pub(crate) fn fill_defaults(&self, tree: &mut Value) {
        let root = self.root(tree);
        self.fill(&root, tree);
    }

    fn fill(&self, node: &Node<'_>, value: &mut Value) {
        let Value::Object(table) = value else { return };
        for key in node.keys() {
            let absent = !table.contains_key(key);
            let default = self.child(node, key, &Value::Null);
            if let Some(default) = default.attribute("default").filter(|_| absent) {
                table.insert(key.to_owned(), default.clone());
            }
        }
        for (key, value) in table {
            let child = self.child(node, key, value);
            self.fill(&child, value);
        }
    }

    fn node<'s>(&'s self, parts: Vec<&'s Value>, instance: &Value) -> Node<'s> {
        let mut all = Vec::new();
        for part in parts {
            self.expand(part, instance, &mut all);
        }
        Node { parts: all }
    }

    /// Follows `$ref`, and of the branches of `allOf` those that `instance` takes.
    fn expand<'s>(&'s self, part: &'s Value, instance: &Value, all: &mut Vec<&'s Value>) {
        all.push(part);
        if let Some(target) = part["$ref"].as_str() {
            let pointer = target.trim_start_matches('#');
            if let Some(target) = self.document.pointer(pointer) {
                self.expand(target, instance, all);
            }
        }
        for branch in part["allOf"].as_array().into_iter().flatten() {
            if takes(&branch["if"], instance) {
                self.expand(&branch["then"], instance, all);
            }
        }
    }
}

impl<'s> Node<'s> {
    /// The first word of the schema on `name`, such as `title` or `default`.
    pub(crate) fn attribute(&self, name: &str) -> Option<&'s Value> {
        self.parts.iter().find_map(|part| part.get(name))
    }

    pub(crate) fn text(&self, name: &str) -> Option<&'s str> {
        self.attribute(name)?.as_str()
    }

    /// The types that a value may have here.
    pub(crate) fn types(&self) -> Vec<&'s str> {
        match self.attribute("type") {
            Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
            one => one.and_then(Value::as_str).into_iter().collect(),
        }
    }

    /// The keys that a table may have here, sorted.
    pub(crate) fn keys(&self) -> Vec<&'s str> {
        let tables = self.parts.iter().filter_map(|part| part.get("properties"));
        let keys = tables.filter_map(Value::as_object).flat_map(Map::keys);
        let mut keys: Vec<&str> = keys.map(String::as_str).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    pub(crate) fn is_secret(&self) -> bool {
        self.attribute("writeOnly").is_some_and(|flag| flag == true)
    }

    /// Whether the schema knows this place at all.
    pub(crate) fn is_known(&self) -> bool {
        !self.parts.is_empty()
    }
}

/// The branches of this schema ask for the value of one key and nothing else.
fn takes(condition: &Value, instance: &Value) -> bool {
    let properties = condition["properties"].as_object();
    let is_required = condition["required"] != serde_json::json!([]);
    properties.is_some_and(|wanted| {
        wanted.iter().all(|(key, rule)| match instance.get(key) {
            Some(value) => *value == rule["const"],
            None => !is_required,
        })
    })
}

fn step<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    match value {
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => value.get(key),
    }
}
