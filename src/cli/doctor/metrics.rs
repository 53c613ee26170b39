//! Single values out of the metrics page.

/// The samples of the series `name`, each with the value of its label `label`.
pub(super) fn samples(page: &str, name: &str, label: &str) -> Vec<(String, f64)> {
    let prefix = format!("{name}{{");
    let wanted = format!("{label}=\"");
    page.lines()
        .filter_map(|line| {
            let (labels, value) = line.strip_prefix(&prefix)?.rsplit_once("} ")?;
            // Names of sources and handlers hold nothing that is escaped.
            let (_, rest) = labels.split_once(&wanted)?;
            let (of, _) = rest.split_once('"')?;
            let value = value.split_whitespace().next()?.parse().ok()?;
            Some((of.to_owned(), value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_label() {
        let page = "# HELP x y\n\
            ims_receiver_timestamp_skew_seconds{source=\"default\"} -3.0\n\
            ims_receiver_timestamp_skew_seconds{source=\"b\"} 400\n\
            ims_receiver_timestamp_skew_seconds_other{source=\"c\"} 1\n\
            ims_receiver_events_total{source=\"default\",type=\"x\"} 5 # {} 1\n";
        assert_eq!(
            samples(page, "ims_receiver_timestamp_skew_seconds", "source"),
            [("default".to_owned(), -3.0), ("b".to_owned(), 400.0)]
        );
        assert!(samples(page, "ims_receiver_missing", "source").is_empty());
    }
}
