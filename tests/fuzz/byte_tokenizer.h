// A tokenizer of bytes and a plain template, for what needs no Python.
#pragma once
#include "io/unicode.h"
#include "text/hub.h"
#include "util/error.h"

/// One token a byte, and "<s>" (256), which is special.
class ByteTokenizer : public farskip::text::HubTokenizer {
 public:
  std::vector<int64_t> encode(std::string_view text, bool) const override {
    std::vector<int64_t> ids;
    for (size_t at = 0; at < text.size(); ++at) {
      const bool special = text.substr(at).starts_with("<s>");
      ids.push_back(special ? 256 : static_cast<unsigned char>(text[at]));
      if (special) at += 2;
    }
    return ids;
  }
  std::string decode(std::span<const int64_t> ids, bool skip_special_tokens, bool) const override {
    farskip::io::LossyUtf8 text;
    std::string whole;
    for (const int64_t id : ids)
      whole += text.push(id < 256              ? std::string(1, static_cast<char>(id))
                         : skip_special_tokens ? ""
                                               : "<s>");
    return whole + text.finish();
  }
  std::optional<int64_t> id_of(std::string_view token) const override {
    return token == "<s>" ? std::optional<int64_t>(256) : std::nullopt;
  }
  std::vector<std::string> tokens() const override {
    std::vector<std::string> all;
    for (int byte = 0; byte < 256; ++byte) all.emplace_back(1, static_cast<char>(byte));
    all.emplace_back("<s>");
    return all;
  }
  farskip::text::Spelling spelling() const override { return farskip::text::Spelling::bytes; }
  std::vector<int64_t> special_ids() const override { return {256}; }
  std::map<std::string, std::string> special_tokens() const override {
    return {{"bos_token", "<s>"}};
  }
};

/// Roles and contents after "<s>"; a system message stands first or not at all.
class PlainTemplates : public farskip::text::HubTemplates {
 public:
  farskip::text::Rendered render(const farskip::text::Conversation& talk) const override {
    std::string text;
    for (const auto& message : talk.messages) {
      const std::string role = message.at("role");
      if (role == "system" && !text.empty()) throw farskip::InputError("no");
      const auto& content = message.at("content");
      text += "<s>" + role + " " + (content.is_string() ? content.get<std::string>() : "");
    }
    return {text, {}};
  }
};
