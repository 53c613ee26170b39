//! The sign-in page, and the pages that say why there is no other.

use axum::http::StatusCode;
use maud::{Markup, html};

use super::layout;

/// The sign-in page. `next` is where the reader wanted to go.
pub(super) fn sign_in(next: &str, wrong: bool) -> Markup {
    layout::door("Sign in", &html! {
        h1.row { (layout::logo()) "ims-receiver" }
        @if wrong { p.notice.bad role="alert" { "That is not the token." } }
        form.stack action="/login" method="post" {
            input type="hidden" name="next" value=(next);
            label { "Token"
                input type="password" name="token" required autofocus autocomplete="current-password" maxlength="1024"; }
            div { button.main type="submit" { "Sign in" } }
        }
        p.small.soft { "The token is in the file that " code { "admin.token_file" } " names." }
    })
}

/// A page that could not be made.
pub(super) fn problem(status: StatusCode, detail: Option<&str>) -> Markup {
    let title = status.canonical_reason().unwrap_or("Error");
    let words = match status {
        StatusCode::NOT_FOUND => "There is nothing here. Events go when their retention is over.",
        StatusCode::FORBIDDEN => "This request was not let in.",
        StatusCode::SERVICE_UNAVAILABLE => "The service cannot answer now. Try again in a moment.",
        _ => "This did not work.",
    };
    layout::door(title, &html! {
        h1 { (title) }
        p.break { (detail.unwrap_or(words)) }
        p { a.button href="/" { "Overview" } " " a.button href="/events" { "Events" } }
    })
}
