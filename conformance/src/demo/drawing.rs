//! A node, its bridge, two pods and the world outside, drawn with characters.

/// A pod and its port on the node.
pub(super) struct Pod {
    pub(super) name: String,
    /// The veth's end on the node, and its label.
    pub(super) port: Vec<String>,
    /// The end in the pod: name, addresses, MAC.
    pub(super) inside: Vec<String>,
}

/// Width of a pod's box, and of the half of the node that is above it.
const POD: usize = 40;

/// From the left edge of the one pod's box to that of the other.
const PITCH: usize = POD + 2;

/// Width of the node's box: above both pods.
const NODE: usize = PITCH + POD;

/// The column of each pod's cable.
const CABLES: [usize; 2] = [POD / 2, PITCH + POD / 2];

/// Draws what is outside, the node with its bridge, and the pods below their ports.
pub(super) fn draw(world: &str, uplink: &str, bridge: &[String], pods: &[Pod; 2]) -> Vec<String> {
    let mut canvas = Canvas::default();
    let middle = NODE / 2;
    let wide = world.chars().count() + 4;
    canvas.frame(middle - wide / 2, 0, wide, 1, "");
    canvas.centred(middle, 1, world);

    // The node: uplink, bridge, a fork to the ports.
    let fork = 6 + bridge.len();
    let ports = pods.iter().map(|pod| pod.port.len()).max().unwrap_or_default();
    canvas.frame(0, 4, NODE, fork + ports - 4, " node ");
    canvas.put(middle, 2, '┬');
    canvas.put(middle, 3, '│');
    canvas.put(middle, 4, '┴');
    canvas.centred(middle, 5, uplink);
    for (y, line) in (6..).zip(bridge) {
        canvas.centred(middle, y, line);
    }
    for x in CABLES[0]..=CABLES[1] {
        canvas.put(x, fork, '─');
    }
    canvas.put(CABLES[0], fork, '┌');
    canvas.put(middle, fork, '┴');
    canvas.put(CABLES[1], fork, '┐');

    let floor = fork + ports + 1;
    for ((x, pod), left) in CABLES.into_iter().zip(pods).zip([0, PITCH]) {
        for (y, line) in (fork + 1..).zip(&pod.port) {
            canvas.centred(x, y, line);
        }
        canvas.frame(left, floor + 2, POD, pod.inside.len(), &format!(" pod \"{}\" ", pod.name));
        canvas.put(x, floor, '┬');
        canvas.put(x, floor + 1, '│');
        canvas.put(x, floor + 2, '┴');
        for (y, line) in (floor + 3..).zip(&pod.inside) {
            canvas.centred(x, y, line);
        }
    }
    canvas.lines()
}

/// Characters by row and column, as large as what was put there.
#[derive(Default)]
struct Canvas(Vec<Vec<char>>);

impl Canvas {
    fn put(&mut self, x: usize, y: usize, character: char) {
        if self.0.len() <= y {
            self.0.resize(y + 1, Vec::new());
        }
        let row = &mut self.0[y];
        if row.len() <= x {
            row.resize(x + 1, ' ');
        }
        row[x] = character;
    }

    fn text(&mut self, x: usize, y: usize, text: &str) {
        for (x, character) in (x..).zip(text.chars()) {
            self.put(x, y, character);
        }
    }

    fn centred(&mut self, middle: usize, y: usize, text: &str) {
        self.text(middle.saturating_sub(text.chars().count() / 2), y, text);
    }

    /// A box of `width` with `height` rows inside, its title in the upper edge.
    fn frame(&mut self, x: usize, y: usize, width: usize, height: usize, title: &str) {
        let (right, bottom) = (x + width - 1, y + height + 1);
        for column in x..=right {
            self.put(column, y, '─');
            self.put(column, bottom, '─');
        }
        for row in y..=bottom {
            self.put(x, row, '│');
            self.put(right, row, '│');
        }
        for (x, y, corner) in [(x, y, '┌'), (right, y, '┐'), (x, bottom, '└'), (right, bottom, '┘')] {
            self.put(x, y, corner);
        }
        self.text(x + 2, y, title);
    }

    fn lines(self) -> Vec<String> {
        self.0.into_iter().map(|row| row.into_iter().collect::<String>().trim_end().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{NODE, Pod, draw};

    fn pod(name: &str) -> Pod {
        Pod {
            name: name.into(),
            port: vec!["veth0123456789a".into(), format!("podwire:net:{name}:eth0")],
            inside: vec!["eth0".into(), "10.22.0.2/16".into()],
        }
    }

    #[test]
    fn everything_is_drawn_and_boxes_are_closed() {
        let lines = draw("world", "uplink", &["cni0".into()], &[pod("web"), pod("db")]);
        let text = lines.join("\n");
        for word in ["world", "uplink", "cni0", "pod \"web\"", "pod \"db\"", "podwire:net:db:eth0", "10.22.0.2/16"] {
            assert!(text.contains(word), "{word} is missing:\n{text}");
        }
        let count = |corner: char| text.matches(corner).count();
        // Four boxes, and the fork has two corners of the upper kind.
        assert_eq!((count('┌'), count('┐'), count('└'), count('┘')), (5, 5, 4, 4), "{text}");
        assert!(lines.iter().all(|line| line.chars().count() <= NODE), "{text}");
    }
}
