//! Writes small ONNX files, so that the engine is tested where no reference model is at hand.

/// A message of the protocol buffers wire format.
#[derive(Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    fn int(mut self, field: u64, value: i64) -> Self {
        self.varint(field << 3);
        self.varint(value.cast_unsigned());
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn message(self, field: u64, value: Self) -> Self {
        self.bytes(field, &value.0)
    }
}

/// Element types of `TensorProto`.
pub(crate) const FLOAT: i64 = 1;
pub(crate) const INT64: i64 = 7;
pub(crate) const BOOL: i64 = 9;
pub(crate) const FLOAT16: i64 = 10;

/// A graph under construction.
#[derive(Default)]
pub(crate) struct Graph(Message);

impl Graph {
    /// A dimension that is a number is fixed, any other is symbolic.
    fn value(name: &str, element: i64, shape: &[&str]) -> Message {
        let dimensions = shape.iter().fold(Message::default(), |shape, dimension| {
            let dimension = match dimension.parse() {
                Ok(size) => Message::default().int(1, size),
                Err(_) => Message::default().bytes(2, dimension.as_bytes()),
            };
            shape.message(1, dimension)
        });
        let tensor = Message::default().int(1, element).message(2, dimensions);
        Message::default().bytes(1, name.as_bytes()).message(2, Message::default().message(1, tensor))
    }

    pub(crate) fn input(self, name: &str, element: i64, shape: &[&str]) -> Self {
        Self(self.0.message(11, Self::value(name, element, shape)))
    }

    pub(crate) fn output(self, name: &str, element: i64, shape: &[&str]) -> Self {
        Self(self.0.message(12, Self::value(name, element, shape)))
    }

    /// A constant vector of integers.
    pub(crate) fn integers(self, name: &str, values: &[i64]) -> Self {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let length = i64::try_from(values.len()).expect("short");
        let tensor = Message::default().int(1, length).int(2, INT64).bytes(8, name.as_bytes()).bytes(9, &data);
        Self(self.0.message(5, tensor))
    }

    /// A node with integer attributes.
    pub(crate) fn node(self, operator: &str, inputs: &[&str], output: &str, attributes: &[(&str, i64)]) -> Self {
        let node = inputs.iter().fold(Message::default(), |node, input| node.bytes(1, input.as_bytes()));
        let node = node.bytes(2, output.as_bytes()).bytes(4, operator.as_bytes());
        let node = attributes.iter().fold(node, |node, (name, value)| {
            const INT: i64 = 2;
            node.message(5, Message::default().bytes(1, name.as_bytes()).int(3, *value).int(20, INT))
        });
        Self(self.0.message(1, node))
    }

    /// The file's bytes.
    pub(crate) fn finish(self) -> Vec<u8> {
        let opset = Message::default().bytes(1, b"").int(2, 17);
        let graph = self.0.bytes(2, b"graph");
        Message::default().int(1, 8).message(8, opset).message(7, graph).0
    }
}
