//! Tables of traffic.

use maud::{Markup, html};

use super::super::texts;
use crate::traffic::{Bytes, Traffic};

/// Returns the table of the traffic by periods.
pub(super) fn periods(traffic: Option<&Traffic>) -> Markup {
    let Some(Traffic { total, day, month }) = traffic else {
        return html! { p .hint { (texts::NO_TRAFFIC_KEPT) } };
    };
    let all = Bytes { received: total.received, sent: total.sent };
    let rows =
        texts::PERIODS.into_iter().zip([day.current, day.previous, month.current, month.previous, all]);
    html! {
        table .periods {
            thead { tr {
                th scope="col" { (texts::PERIOD) }
                th scope="col" .number { (texts::RECEIVED) }
                th scope="col" .number { (texts::SENT) }
            } }
            tbody { @for (name, Bytes { received, sent }) in rows { tr {
                th scope="row" { (name) }
                td .number { (texts::bytes(received)) }
                td .number { (texts::bytes(sent)) }
            } } }
        }
    }
}
