// Conversations of a training set through a model's chat template.
#pragma once
#include <string>
#include <vector>

#include "text/passages.h"
#include "text/training_row.h"

namespace farskip::text {

/// Renders conversations so that nothing that they hold is lost without a word.
class ChatReader {
 public:
  /// `names` are the template's; `marked`: it has {% generation %} blocks.
  ChatReader(Render render, TemplateNames names, bool marked);

  /// Lists of text parts become strings where the template does not take lists. InputError where
  /// the template refuses the conversation, leaves a message of another role than user and
  /// assistant out, or does not read the tools or documents that are there.
  std::vector<Passage> read(ChatRow row) const;

 private:
  bool takes_parts() const;
  void check_beside(const Conversation& conversation) const;
  void check_roles(const Conversation& conversation) const;

  Render render_;
  TemplateNames names_;
  bool marked_;
  bool takes_parts_;
};

}  // namespace farskip::text
