#include "text_format.h"

#include <cctype>

#include "labelassemble/error.h"

namespace labelassemble::serve {
namespace {

constexpr int kMaxDepth = 32;

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  TextMessage whole() {
    TextMessage message = fields('\0', 0);
    return message;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error("line " + std::to_string(line_) + ": " + what);
  }

  bool done() const { return at_ == text_.size(); }
  char peek() const { return done() ? '\0' : text_[at_]; }

  void skip_space() {
    while (!done()) {
      const char c = text_[at_];
      if (c == '#') {
        while (!done() && text_[at_] != '\n') ++at_;
      } else if (c == '\n') {
        ++line_;
        ++at_;
      } else if (c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v') {
        ++at_;
      } else {
        return;
      }
    }
  }

  bool take(char c) {
    skip_space();
    if (peek() != c || done()) return false;
    ++at_;
    return true;
  }

  static bool is_word(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == '+' ||
           c == '-';
  }

  std::string word(const char* what) {
    skip_space();
    const std::size_t start = at_;
    while (!done() && is_word(text_[at_])) ++at_;
    if (at_ == start) {
      fail(done() ? std::string(what) + " expected, but the file ends"
                  : std::string(what) + " expected, got '" + std::string(1, peek()) + "'");
    }
    return std::string(text_.substr(start, at_ - start));
  }

  // Fields up to `end` ('}', '>' or the end of the file).
  TextMessage fields(char end, int depth) {
    if (depth > kMaxDepth) fail("messages are nested too deeply");
    TextMessage message;
    for (;;) {
      skip_space();
      if (done()) {
        if (end != '\0') fail(std::string("'") + end + "' expected, but the file ends");
        return message;
      }
      if (end != '\0' && take(end)) return message;
      field(message, depth);
      if (!take(',')) take(';');
    }
  }

  void field(TextMessage& message, int depth) {
    skip_space();
    if (peek() == '[') fail("extensions are not supported");
    const std::string name = word("a field's name");
    const bool colon = take(':');
    if (take('[')) {
      if (take(']')) return;
      do {
        value(message, name, colon, depth);  // without a colon, only messages
      } while (take(','));
      if (!take(']')) fail("',' or ']' expected in the list of '" + name + "'");
      return;
    }
    value(message, name, colon, depth);
  }

  void value(TextMessage& message, const std::string& name, bool colon, int depth) {
    skip_space();
    TextField field;
    field.name = name;
    field.line = line_;
    const char c = peek();
    if (c == '{' || c == '<') {
      ++at_;
      field.kind = TextField::Kind::kMessage;
      field.message = fields(c == '{' ? '}' : '>', depth + 1);
    } else if (!colon) {
      fail("':' or '{' expected after '" + name + "'");
    } else if (c == '"' || c == '\'') {
      field.kind = TextField::Kind::kString;
      while (peek() == '"' || peek() == '\'') {  // adjacent strings are one
        string(field.text);
        skip_space();
      }
    } else {
      field.text = word("a value");
    }
    message.fields.push_back(std::move(field));
  }

  void string(std::string& out) {
    const char quote = text_[at_++];
    for (;;) {
      if (done() || peek() == '\n') fail("a string does not end");
      const char c = text_[at_++];
      if (c == quote) return;
      if (c == '\\') {
        escape(out);
      } else {
        out += c;
      }
    }
  }

  void escape(std::string& out) {
    if (done()) fail("a string does not end");
    const char c = text_[at_++];
    static constexpr std::string_view kNames = "abfnrtv\\'\"?";
    static constexpr std::string_view kValues = "\a\b\f\n\r\t\v\\'\"?";
    if (const std::size_t i = kNames.find(c); i != std::string_view::npos) {
      out += kValues[i];
    } else if (c >= '0' && c <= '7') {
      int value = c - '0';
      for (int i = 0; i < 2 && peek() >= '0' && peek() <= '7'; ++i) {
        value = value * 8 + (text_[at_++] - '0');
      }
      if (value > 255) fail("an octal escape must be at most \\377");
      out += static_cast<char>(value);
    } else if (c == 'x' || c == 'X') {
      int value = 0;
      int digits = 0;
      while (digits < 2 && std::isxdigit(static_cast<unsigned char>(peek())) != 0) {
        const char d = text_[at_++];
        value = value * 16 + (d <= '9' ? d - '0' : (d | 32) - 'a' + 10);
        ++digits;
      }
      if (digits == 0) fail("\\x must be followed by a hexadecimal digit");
      out += static_cast<char>(value);
    } else {
      fail(std::string("unknown escape \\") + c);
    }
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int line_ = 1;
};

}  // namespace

TextMessage parse_text_format(std::string_view text) { return Parser(text).whole(); }

}  // namespace labelassemble::serve
