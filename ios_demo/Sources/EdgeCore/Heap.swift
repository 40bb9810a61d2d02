/// A binary heap: the element that comes before all others is at the front.
struct Heap<Element> {
  private(set) var elements: [Element] = []
  private let isBefore: (Element, Element) -> Bool

  init(_ isBefore: @escaping (Element, Element) -> Bool) { self.isBefore = isBefore }

  var count: Int { elements.count }
  var first: Element? { elements.first }

  mutating func push(_ element: Element) {
    elements.append(element)
    var at = elements.count - 1
    while at > 0, isBefore(elements[at], elements[(at - 1) / 2]) {
      elements.swapAt(at, (at - 1) / 2)
      at = (at - 1) / 2
    }
  }

  mutating func popFirst() -> Element? {
    guard let last = elements.popLast() else { return nil }
    guard let front = elements.first else { return last }
    replaceFirst(with: last)
    return front
  }

  /// There must be a first.
  mutating func replaceFirst(with element: Element) {
    elements[0] = element
    var at = 0
    while true {
      var front = at
      for child in [2 * at + 1, 2 * at + 2] where child < elements.count && isBefore(elements[child], elements[front]) {
        front = child
      }
      if front == at { return }
      elements.swapAt(at, front)
      at = front
    }
  }
}
