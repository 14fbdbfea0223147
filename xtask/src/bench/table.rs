//! What a question was answered with: a table, as text and as JSON.

use serde_json::{Map, Value, json};

/// What stands in a column.
pub(crate) struct Column {
    /// Its name in JSON.
    pub(crate) key: &'static str,
    /// Its head in text.
    pub(crate) title: &'static str,
    /// Decimals in text; JSON has the number as it is.
    pub(crate) decimals: usize,
}

/// One tool.
pub(crate) struct Row {
    pub(crate) name: String,
    /// One for each column; what is unknown is absent.
    pub(crate) cells: Measured<Vec<Option<f64>>>,
}

/// What came of measuring a tool.
pub(crate) type Measured<T> = Result<T, DoesNotRun>;

/// Why a tool could not be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DoesNotRun(pub(crate) String);

/// The answer to one question.
pub(crate) struct Table {
    pub(crate) question: &'static str,
    /// What was done, in a sentence.
    pub(crate) title: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
}

impl Table {
    /// As Markdown, the form in which README.md has it.
    pub(crate) fn text(&self) -> String {
        let titles = self.columns.iter().map(|column| column.title);
        let heads: Vec<&str> = std::iter::once(self.question).chain(titles).collect();
        let rules = "|--:".repeat(self.columns.len());
        let rows = self.rows.iter().map(|row| self.text_of(row));
        format!("{}\n\n| {} |\n|---{rules}|\n{}", self.title, heads.join(" | "), rows.collect::<String>())
    }

    fn text_of(&self, row: &Row) -> String {
        let cells = match &row.cells {
            Ok(cells) => self
                .columns
                .iter()
                .zip(cells)
                .map(|(column, cell)| cell.map_or_else(|| "–".to_owned(), |cell| column.shown(cell)))
                .collect::<Vec<_>>()
                .join(" | "),
            Err(DoesNotRun(why)) => {
                let rest = " | ".repeat(self.columns.len().saturating_sub(1));
                format!("does not run here: {}{rest}", why.replace('|', "\\|"))
            }
        };
        format!("| {} | {cells} |\n", row.name.replace('|', "\\|"))
    }

    /// A line for each row.
    pub(crate) fn json(&self) -> String {
        let lines: Vec<String> = self.rows.iter().map(|row| self.json_of(row).to_string()).collect();
        lines.join("\n")
    }

    fn json_of(&self, row: &Row) -> Value {
        // Backticks are Markdown's.
        let tool = row.name.replace('`', "");
        let mut object =
            Map::from_iter([("question".into(), json!(self.question)), ("tool".into(), json!(tool))]);
        match &row.cells {
            Ok(cells) => {
                let known = self.columns.iter().zip(cells);
                object.extend(
                    known.filter_map(|(column, cell)| Some((column.key.to_owned(), json!((*cell)?)))),
                );
            }
            Err(DoesNotRun(why)) => {
                object.insert("does_not_run".into(), json!(why));
            }
        }
        object.into()
    }
}

impl Column {
    fn shown(&self, cell: f64) -> String {
        format!("{cell:.*}", self.decimals)
    }
}

/// The one in the middle, of an even number the mean of both.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], upper) } else { upper })
}

#[cfg(test)]
mod tests {
    use super::{Column, DoesNotRun, Row, Table, median};

    fn table() -> Table {
        let column = |key, title, decimals| Column { key, title, decimals };
        let row = |name: &str, cells| Row { name: name.to_owned(), cells };
        Table {
            question: "churn",
            title: "Connections.".to_owned(),
            columns: vec![column("load_ratio", "load's rate", 2), column("records", "records", 0)],
            rows: vec![
                row("`zsock trace`", Ok(vec![Some(0.981), None])),
                row("a | b", Ok(vec![Some(0.5), Some(12.0)])),
                row("tcplife", Err(DoesNotRun("no kprobes | no headers".to_owned()))),
            ],
        }
    }

    #[test]
    fn text_is_a_table_of_markdown_in_which_what_does_not_run_has_its_reason() {
        let expected = "Connections.

| churn | load's rate | records |
|---|--:|--:|
| `zsock trace` | 0.98 | – |
| a \\| b | 0.50 | 12 |
| tcplife | does not run here: no kprobes \\| no headers |  |
";
        assert_eq!(table().text(), expected);
    }

    #[test]
    fn json_has_a_line_for_each_tool_and_nothing_that_is_unknown() {
        let expected = r#"{"load_ratio":0.981,"question":"churn","tool":"zsock trace"}
{"load_ratio":0.5,"question":"churn","records":12.0,"tool":"a | b"}
{"does_not_run":"no kprobes | no headers","question":"churn","tool":"tcplife"}"#;
        assert_eq!(table().json(), expected);
    }

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
    }
}
