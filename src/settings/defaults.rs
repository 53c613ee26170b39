//! The defaults that depend on other keys, so that the schema cannot state
//! them as one value.

use serde_json::{Value, json};

/// The `body_bytes_max` of a `log` handler that writes to the terminal, where
/// container log drivers split lines that are much longer.
const STREAM_BODY_BYTES_MAX: u64 = 8192;

/// Fills them into `tree`, where the schema's own defaults stand already.
/// `written` is the tree without any default.
pub(super) fn fill_dependent(tree: &mut Value, written: &Value) {
    let capacity = tree["dispatch"]["queue_capacity"].as_u64();
    let Some(handlers) = tree["handlers"].as_object_mut() else {
        return;
    };
    for (name, handler) in handlers {
        let is_written = written["handlers"][name].get("concurrency").is_some();
        if let Some(capacity) = capacity
            && let Some(concurrency) = handler["concurrency"].as_u64()
            && !is_written
        {
            // A small queue alone is no mistake: only a concurrency that was
            // asked for and cannot be had is one.
            handler["concurrency"] = json!(concurrency.min(capacity));
        }
        let to_stream = handler["kind"] == "log"
            && (handler["output"] == "stdout" || handler["output"] == "stderr");
        if to_stream && handler.get("body_bytes_max").is_none() {
            handler["body_bytes_max"] = json!(STREAM_BODY_BYTES_MAX);
        }
    }
}
