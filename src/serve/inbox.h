// What an engine says of one request's sequences, on its way to the connection that waits for it.
#pragma once
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"

namespace farskip::serve {

/// What has happened to a sequence since somebody last looked.
struct News {
  std::vector<engine::Token> prompt;  ///< its log-probabilities, from the second token on
  std::vector<engine::Token> tokens;  ///< new ones
  std::string text;                   ///< what is certain with them
  std::optional<engine::Outcome> outcome;
};

/// Any thread may use it.
class Inbox {
 public:
  /// `every_token`: tokens are worth a wake, not only the end of a sequence.
  Inbox(size_t sequences, bool every_token) : news_(sequences), every_token_(every_token) {}

  /// `wake` is called by add(), once for all that is added until the next take().
  void notify(std::function<void()> wake);
  void add(size_t sequence, News news);
  /// The news of every sequence, which are not told again.
  std::vector<News> take();

 private:
  std::mutex mutex_;
  std::vector<News> news_;
  const bool every_token_;
  bool told_ = false;
  std::function<void()> wake_;
};

}  // namespace farskip::serve
