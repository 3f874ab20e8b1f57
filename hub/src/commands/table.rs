//! Lists as people read them in a terminal. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Columns of a terminal; only a long last cell is cut to them, names never.
const WIDTH: usize = 100;

/// Between two columns.
const GAP: &str = "  ";

/// Lines with `head` above, as wide as they must be; an empty cell is a dash.
pub(super) fn table<const COLUMNS: usize>(head: [&str; COLUMNS], rows: &[[String; COLUMNS]]) -> String {
    let mut widths = head.map(length);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(length(cell));
        }
    }
    let mut text = line(&head, &widths);
    for row in rows {
        text.push_str(&line(&row.each_ref().map(String::as_str), &widths));
    }
    text
}

fn line(cells: &[&str], widths: &[usize]) -> String {
    let mut line = String::new();
    for (number, (cell, width)) in cells.iter().zip(widths).enumerate() {
        if number > 0 {
            line.push_str(GAP);
        }
        let cell = if cell.is_empty() { "-" } else { *cell };
        if number + 1 == cells.len() {
            line.push_str(&cut(cell, WIDTH.saturating_sub(length(&line))));
        } else {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(length(cell))));
        }
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// At least a few signs, however little room there is.
fn cut(text: &str, room: usize) -> String {
    let room = room.max(8);
    if length(text) <= room {
        return text.to_owned();
    }
    text.chars().take(room - 1).chain(['…']).collect()
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// A moment in whole seconds, as objects keep it.
pub(super) fn moment(time: &Time) -> String {
    time.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells_and_nothing_is_a_dash() {
        let rows = [
            ["a".to_owned(), "1".to_owned(), "x".to_owned()],
            ["remote-1".to_owned(), String::new(), String::new()],
        ];
        let expected = "NAME      EPOCH  STATE\na         1      x\nremote-1  -      -\n";
        assert_eq!(table(["NAME", "EPOCH", "STATE"], &rows), expected);
    }

    #[test]
    fn long_last_cell_is_cut_to_the_terminal_and_a_long_name_is_not() {
        let name = "n".repeat(63);
        let text = table(["NAME", "REASON"], &[[name.clone(), "r".repeat(200)]]);
        let line = text.lines().nth(1).expect("a row");
        assert!(line.starts_with(&name));
        assert!(line.ends_with("r…"));
        assert_eq!(line.chars().count(), WIDTH);
    }
}
