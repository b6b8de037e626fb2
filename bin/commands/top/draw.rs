//! The screen: a terminal that is given back as it was, whatever happens.

use super::look::Tick;
use crate::error::Failure;
use membus::Status;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};
use ratatui::{DefaultTerminal, Frame};
use std::io;
use std::path::Path;
use std::time::Duration;

/// Lines of the upper half: ten operations, their heading and a border.
const UPPER: u16 = 13;

/// What somebody wants who looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    End,
    /// The window has another size.
    Draw,
}

/// A terminal that shows nothing else. A panic gives it back before it is told.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    colours: bool,
}

fn failed() -> impl FnOnce(io::Error) -> Failure {
    Failure::io("drawing on", Path::new("the terminal"))
}

impl Screen {
    pub(super) fn open(colours: bool) -> Result<Self, Failure> {
        let terminal = ratatui::try_init().inspect_err(|_| ratatui::restore());
        Ok(Self { terminal: terminal.map_err(failed())?, colours })
    }

    pub(super) fn draw(&mut self, tick: &Tick<'_>) -> Result<(), Failure> {
        let colours = self.colours;
        self.terminal.draw(|frame| draw(frame, tick, colours)).map(drop).map_err(failed())
    }

    /// Waits for what somebody wants, so long at most.
    pub(super) fn wish(&mut self, most: Duration) -> Result<Option<Wish>, Failure> {
        if !event::poll(most).map_err(failed())? {
            return Ok(None);
        }
        Ok(wish(&event::read().map_err(failed())?))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn wish(event: &Event) -> Option<Wish> {
    match event {
        Event::Resize(..) => Some(Wish::Draw),
        Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Some(Wish::End),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::End),
            _ => None,
        },
        _ => None,
    }
}

/// A table whose columns are as wide as what is in them.
fn table<'a>(title: &'a str, headings: &[&'a str], rows: Vec<Vec<String>>) -> Table<'a> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        let widest = cells.chain(headings.get(column).map(|text| text.len())).max().unwrap_or(0);
        Constraint::Length(u16::try_from(widest).unwrap_or(u16::MAX))
    };
    let widths: Vec<_> = (0..headings.len()).map(width).collect();
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let heading = Row::new(headings.iter().map(|text| Cell::new(*text))).style(bold);
    let rows = rows.into_iter().map(|row| Row::new(row.into_iter().map(Cell::new)));
    Table::new(rows, widths).header(heading).column_spacing(2).block(Block::bordered().title(title))
}

fn draw(frame: &mut Frame<'_>, tick: &Tick<'_>, colours: bool) {
    let issues = tick.issues();
    let lines = u16::try_from(issues.len().clamp(1, 8) + 2).unwrap_or(3);
    let (upper, members) = (Constraint::Length(UPPER), Constraint::Min(4));
    let parts = [Constraint::Length(1), upper, members, Constraint::Length(lines)];
    let [title, upper, members, lower] = Layout::vertical(parts).areas::<4>(frame.area());
    let status = tick.status();
    let colour = if status == Status::Healthy { Color::Green } else { Color::Red };
    let style = if colours { Style::new().fg(colour) } else { Style::new() };
    frame.render_widget(Line::raw(format!(" {}  (q ends)", tick.title())), title);
    draw_upper(frame, tick, upper);
    frame.render_widget(table(" members ", &Tick::MEMBERS, tick.members()), members);
    let text: Vec<_> = match issues.is_empty() {
        true => vec![Line::raw("nothing is wrong")],
        false => issues.into_iter().map(Line::raw).collect(),
    };
    let block = Block::bordered().title(format!(" {status} "));
    frame.render_widget(Paragraph::new(text).style(style).block(block), lower);
}

fn draw_upper(frame: &mut Frame<'_>, tick: &Tick<'_>, area: Rect) {
    let halves = [Constraint::Percentage(42), Constraint::Fill(1)];
    let [left, right] = Layout::horizontal(halves).areas::<2>(area);
    let headings = ["OPERATION", "PER SECOND", "TOTAL"];
    frame.render_widget(table(" operations ", &headings, tick.operations()), left);
    let state = tick.state().into_iter().map(|(name, text)| Line::raw(format!("{name:10} {text}")));
    let state = Paragraph::new(state.collect::<Vec<_>>());
    frame.render_widget(state.block(Block::bordered().title(" state ")), right);
}

#[cfg(test)]
mod tests {
    use super::super::look::Look;
    use super::*;
    use membus::{Bus, BusReader, ReadBus};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyEvent;

    fn screen(width: u16, height: u16, tick: &Tick<'_>) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, tick, true)).unwrap();
        let buffer = terminal.backend().buffer();
        let cells = buffer.content().chunks(usize::from(width.max(1)));
        cells.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect()).collect()
    }

    /// Promise: what was done between the looks is shown, with who did it, the busiest first, and what is wrong; a
    /// window of any size is drawn.
    /// Plant: members in the order of their slots.
    #[test]
    fn what_goes_on_is_drawn() {
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        let options = || Bus::options().state(place.path().join("state")).keeper(false);
        let path = place.path().join("orders");
        let quiet = options().label("quiet").create_at(&path).unwrap();
        let busy = options().label("busy").attach_at(&path).unwrap();
        let reader = BusReader::open_at(&path).unwrap();
        quiet.set("before", &1).unwrap();
        let before = Look::at(&reader, None).unwrap();
        for _ in 0..700 {
            busy.add("n", 1).unwrap();
        }
        quiet.get_bytes("n").unwrap();
        let now = Look::at(&reader, Some(&before)).unwrap();
        let tick = now.since(&before);
        let shown = screen(110, 30, &tick);
        let find = |text: &str| {
            let found = shown.iter().position(|line| line.contains(text));
            found.unwrap_or_else(|| panic!("{text} in\n{}", shown.join("\n")))
        };
        assert!(shown[0].contains("orders  revision 701, 2 entries, 2 members"), "{}", shown[0]);
        assert!(shown[find("adds ")].contains("700") && find("adds ") < find("gets "));
        assert!(find(" busy ") < find(" quiet "));
        assert!(find("degraded: no_keeper") > find(" quiet "));
        for (width, height) in [(0, 0), (1, 1), (10, 3), (40, 12), (300, 5), (20, 200)] {
            screen(width, height, &tick);
        }
    }

    /// Promise: q, Escape and Ctrl-C end it, nothing else does.
    /// Plant: Ctrl-C that is not looked at: in this mode of the terminal it is no signal.
    #[test]
    fn keys_that_end_it() {
        let key = |code, with| wish(&Event::Key(KeyEvent::new(code, with)));
        let none = KeyModifiers::NONE;
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(key(code, none), Some(Wish::End));
        }
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Wish::End));
        assert_eq!(key(KeyCode::Char('c'), none), None);
        assert_eq!(wish(&Event::Resize(1, 1)), Some(Wish::Draw));
    }
}
