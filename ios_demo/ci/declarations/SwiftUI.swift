// What the app uses of SwiftUI, declared for type-checking where there is none.  From Apple's documentation of iOS
// 18; nothing here runs, and nothing proves that Apple's own is spelled so.
@_exported import Foundation
@_exported import Observation
import UniformTypeIdentifiers

@MainActor @preconcurrency public protocol View {
  associatedtype Body: View
  @ViewBuilder var body: Body { get }
}

extension Never: View { public var body: Never { return fatalError() } }

/// Any view that a builder or a modifier makes.
public struct Made: View { public var body: Never { return fatalError() } }

@resultBuilder public enum ViewBuilder {
  public static func buildBlock() -> Made { fatalError() }
  public static func buildExpression(_ view: some View) -> Made { fatalError() }
  public static func buildBlock(_ views: Made...) -> Made { fatalError() }
  public static func buildOptional(_ view: Made?) -> Made { fatalError() }
  public static func buildEither(first view: Made) -> Made { fatalError() }
  public static func buildEither(second view: Made) -> Made { fatalError() }
}

@MainActor @preconcurrency public protocol App {
  associatedtype Content: Scene
  @SceneBuilder var body: Content { get }
  init()
}

extension App { public static func main() { fatalError() } }

@MainActor @preconcurrency public protocol Scene {}

@resultBuilder public enum SceneBuilder { public static func buildBlock<S: Scene>(_ scene: S) -> S { fatalError() } }

public struct WindowGroup: Scene { public init(@ViewBuilder content: () -> some View) {} }

public enum ScenePhase: Sendable { case background, inactive, active }

public struct EnvironmentValues { public var scenePhase: ScenePhase { fatalError() } }

// ---- values that views own ----

@propertyWrapper public struct State<Value> {
  public init(wrappedValue: Value) {}
  public init() where Value: ExpressibleByNilLiteral {}
  public var wrappedValue: Value {
    get { fatalError() }
    nonmutating set {}
  }
  public var projectedValue: Binding<Value> { fatalError() }
}

@propertyWrapper public struct Binding<Value> {
  public init(get: @escaping () -> Value, set: @escaping (Value) -> Void) {}
  public init(projectedValue: Binding<Value>) {}
  public static func constant(_ value: Value) -> Binding<Value> { fatalError() }
  public var wrappedValue: Value {
    get { fatalError() }
    nonmutating set {}
  }
  public var projectedValue: Binding<Value> { fatalError() }
}

@dynamicMemberLookup @propertyWrapper public struct Bindable<Value: AnyObject & Observable> {
  public init(wrappedValue: Value) {}
  public var wrappedValue: Value { fatalError() }
  public var projectedValue: Bindable<Value> { fatalError() }
  public subscript<Subject>(dynamicMember path: ReferenceWritableKeyPath<Value, Subject>) -> Binding<Subject> {
    fatalError()
  }
}

@propertyWrapper public struct Environment<Value> {
  public init(_ path: KeyPath<EnvironmentValues, Value>) {}
  public var wrappedValue: Value { fatalError() }
}

// ---- views ----

public struct Text: View {
  public init(_ text: some StringProtocol) {}
  public var body: Never { return fatalError() }
}

public struct Label: View {
  public init(_ title: some StringProtocol, systemImage: String) {}
  public var body: Never { return fatalError() }
}

public struct ButtonRole: Sendable {
  public static let cancel = ButtonRole()
  public static let destructive = ButtonRole()
}

public struct Button: View {
  public init(_ title: some StringProtocol, action: @escaping @MainActor () -> Void) {}
  public init(_ title: some StringProtocol, role: ButtonRole?, action: @escaping @MainActor () -> Void) {}
  public init(_ title: some StringProtocol, systemImage: String, action: @escaping @MainActor () -> Void) {}
  public var body: Never { return fatalError() }
}

public enum Axis: Sendable { case horizontal, vertical }

public struct TextField: View {
  public init(_ title: some StringProtocol, text: Binding<String>) {}
  public init(_ title: some StringProtocol, text: Binding<String>, axis: Axis) {}
  public var body: Never { return fatalError() }
}

public struct Toggle: View {
  public init(_ title: some StringProtocol, isOn: Binding<Bool>) {}
  public var body: Never { return fatalError() }
}

public struct Picker: View {
  public init<Selection: Hashable>(
    _ title: some StringProtocol, selection: Binding<Selection>, @ViewBuilder content: () -> some View
  ) {}
  public var body: Never { return fatalError() }
}

public struct ProgressView: View {
  public init(_ title: some StringProtocol) {}
  public init(value: (some BinaryFloatingPoint)?) {}
  public var body: Never { return fatalError() }
}

public struct LabeledContent: View {
  public init(_ title: some StringProtocol, value: some StringProtocol) {}
  public var body: Never { return fatalError() }
}

public struct ForEach: View {
  public init<Data: RandomAccessCollection>(_ data: Data, @ViewBuilder content: (Data.Element) -> some View)
  where Data.Element: Identifiable {}
  public init<Data: RandomAccessCollection, ID: Hashable>(
    _ data: Data, id: KeyPath<Data.Element, ID>, @ViewBuilder content: (Data.Element) -> some View
  ) {}
  public var body: Never { return fatalError() }
}

// ---- containers ----

public enum HorizontalAlignment: Sendable { case leading, center, trailing }

public struct VStack: View {
  public init(alignment: HorizontalAlignment = .center, spacing: Double? = nil, @ViewBuilder content: () -> some View) {
  }
  public var body: Never { return fatalError() }
}

public struct LazyVStack: View {
  public init(alignment: HorizontalAlignment = .center, spacing: Double? = nil, @ViewBuilder content: () -> some View) {
  }
  public var body: Never { return fatalError() }
}

public struct HStack: View {
  public init(@ViewBuilder content: () -> some View) {}
  public var body: Never { return fatalError() }
}

public struct Form: View {
  public init(@ViewBuilder content: () -> some View) {}
  public var body: Never { return fatalError() }
}

public struct Section: View {
  public init(@ViewBuilder content: () -> some View) {}
  public init(_ title: some StringProtocol, @ViewBuilder content: () -> some View) {}
  public var body: Never { return fatalError() }
}

public struct DisclosureGroup: View {
  public init(_ title: some StringProtocol, @ViewBuilder content: @escaping () -> some View) {}
  public var body: Never { return fatalError() }
}

public struct NavigationStack: View {
  public init(@ViewBuilder root: () -> some View) {}
  public var body: Never { return fatalError() }
}

public struct ScrollView: View {
  public init(@ViewBuilder content: () -> some View) {}
  public var body: Never { return fatalError() }
}

public struct UnitPoint: Sendable { public static let bottom = UnitPoint() }

@MainActor public struct ScrollViewProxy { public func scrollTo(_ id: some Hashable, anchor: UnitPoint?) {} }

public struct ScrollViewReader: View {
  public init(@ViewBuilder content: @escaping (ScrollViewProxy) -> some View) {}
  public var body: Never { return fatalError() }
}

public enum ToolbarItemPlacement: Sendable { case topBarLeading, topBarTrailing }

@MainActor public protocol ToolbarContent {}

public struct ToolbarItem: ToolbarContent {
  public init(placement: ToolbarItemPlacement, @ViewBuilder content: () -> some View) {}
}

@resultBuilder public enum ToolbarContentBuilder {
  public static func buildBlock(_ items: ToolbarItem...) -> ToolbarItem { fatalError() }
}

// ---- modifiers ----

public protocol ShapeStyle {}
public struct Color: ShapeStyle {}
public struct HierarchicalShapeStyle: ShapeStyle {}
public struct Material: ShapeStyle {}
extension ShapeStyle where Self == Color { public static var red: Color { fatalError() } }
extension ShapeStyle where Self == HierarchicalShapeStyle {
  public static var secondary: HierarchicalShapeStyle { fatalError() }
}
extension ShapeStyle where Self == Material { public static var bar: Material { fatalError() } }

public enum Font: Sendable { case caption, callout, footnote }
public enum VerticalEdge: Sendable { case top, bottom }
public struct AccessibilityChildBehavior: Sendable { public static let combine = AccessibilityChildBehavior() }
public struct EnabledTextSelectability: Sendable { public static let enabled = EnabledTextSelectability() }
public struct IconOnlyLabelStyle: Sendable { public static let iconOnly = IconOnlyLabelStyle() }

extension View {
  public func font(_ font: Font?) -> Made { fatalError() }
  public func foregroundStyle(_ style: some ShapeStyle) -> Made { fatalError() }
  public func background(_ style: some ShapeStyle) -> Made { fatalError() }
  public func padding() -> Made { fatalError() }
  public func disabled(_ disabled: Bool) -> Made { fatalError() }
  public func lineLimit(_ limit: ClosedRange<Int>) -> Made { fatalError() }
  public func labelStyle(_ style: IconOnlyLabelStyle) -> Made { fatalError() }
  public func textSelection(_ selectability: EnabledTextSelectability) -> Made { fatalError() }
  public func accessibilityElement(children: AccessibilityChildBehavior) -> Made { fatalError() }
  public func id(_ id: some Hashable) -> Made { fatalError() }
  public func tag(_ tag: some Hashable) -> Made { fatalError() }
  public func onSubmit(_ action: @escaping @MainActor () -> Void) -> Made { fatalError() }
  public func task(_ action: @escaping @MainActor @Sendable () async -> Void) -> Made { fatalError() }
  public func onChange<V: Equatable>(of value: V, _ action: @escaping @MainActor (V, V) -> Void) -> Made {
    fatalError()
  }
  public func navigationTitle(_ title: some StringProtocol) -> Made { fatalError() }
  public func toolbar(@ToolbarContentBuilder content: () -> some ToolbarContent) -> Made { fatalError() }
  public func safeAreaInset(edge: VerticalEdge, @ViewBuilder content: () -> some View) -> Made { fatalError() }
  public func fileImporter(
    isPresented: Binding<Bool>, allowedContentTypes: [UTType],
    onCompletion: @escaping @MainActor (Result<URL, any Error>) -> Void
  ) -> Made { fatalError() }
  public func alert(
    _ title: some StringProtocol, isPresented: Binding<Bool>, @ViewBuilder actions: () -> some View,
    @ViewBuilder message: () -> some View
  ) -> Made { fatalError() }
}
